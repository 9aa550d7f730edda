/// A peer whose certificate the fuzzer has written: flags first, then the bytes of its extensions.
import CertificateAuthority
import FoundationEssentials
import SwiftASN1
import X509

@testable import Signing

/// What the peer is in the connection.
enum Role {
    case client
    case server
}

struct Stranger {
    let role: Role
    /// DER, the leaf first.
    let chain: [[UInt8]]
    /// Whoever signed it may, whatever the time is.
    let isOfOurs: Bool
    let isInTime: Bool
    /// Nothing is odd about it.
    let isGood: Bool
    private let usages: Usages

    private enum Usages: UInt8 {
        case none = 0
        case both
        case server
        case client
        case code
        case authority
    }

    init?(_ input: [UInt8]) {
        guard input.count >= 6, let usages = Usages(rawValue: input[1] % 6) else { return nil }
        let names = Array(input[6...])
        role = input[0] & 1 == 0 ? .client : .server
        self.usages = usages
        let signer = world.signers[Int(input[2]) % world.signers.count]
        let (begin, end) =
            switch input[3] % 4 {
            case 1: (world.now - 7200, world.now - 3600)
            case 2: (world.now + 3600, world.now + 7200)
            default: (world.now - 60, world.now + 3600)
            }
        let isOdd = input[4] % 8 != 0
        guard let leaf = Self.leaf(signer, begin, end, usages, odd: input[4] % 8, input[0] >> 1 % 3, names) else {
            return nil
        }
        var chain = [leaf]
        // What it sends beside it.
        let sent: [[UInt8]?] = [
            signer.certificate, world.intermediate, world.root, world.good, world.signers[4].certificate, leaf,
        ]
        for (bit, certificate) in sent.enumerated() where input[5] >> bit & 1 == 1 {
            if let certificate { chain.append(certificate) }
        }
        self.chain = chain
        isOfOurs = signer.isOfOurs && (signer.certificate.map { chain.dropFirst().contains($0) } ?? true)
        isInTime =
            signer.isInTime && begin < world.now
            && world.now < end
        isGood =
            isOfOurs && isInTime && !isOdd && input[0] >> 1 % 3 == 0 && (usages == .none || usages == .both)
            && input[5] & ~1 == 0
    }

    func isFor(_ role: Role) -> Bool {
        switch usages {
        case .none, .both: true
        case .server: role == .server
        case .client: role == .client
        case .code, .authority: false
        }
    }

    /// `kind`: our names, URIs a line each, or whatever as subjectAltName.
    private static func leaf(
        _ signer: World.Signer, _ begin: Int, _ end: Int, _ usages: Usages, odd: UInt8, _ kind: UInt8, _ names: [UInt8]
    ) -> [UInt8]? {
        do {
            let alternatives: SubjectAlternativeNames
            switch kind {
            case 1:
                alternatives = SubjectAlternativeNames(
                    names.split(separator: UInt8(ascii: "\n")).map {
                        .uniformResourceIdentifier(String(decoding: $0, as: UTF8.self))
                    })
            default: alternatives = SubjectAlternativeNames([.uniformResourceIdentifier(world.identity.description)])
            }
            var list: [Certificate.Extension] = [
                kind == 2
                    ? Certificate.Extension(
                        oid: .X509ExtensionID.subjectAlternativeName, critical: true, value: names[...])
                    : try Certificate.Extension(alternatives, critical: true),
                try .init(BasicConstraints.notCertificateAuthority, critical: true),
                try .init(KeyUsage(digitalSignature: true), critical: true),
            ]
            switch usages {
            case .none: break
            case .both: list.append(try .init(ExtendedKeyUsage([.serverAuth, .clientAuth]), critical: false))
            case .server: list.append(try .init(ExtendedKeyUsage([.serverAuth]), critical: false))
            case .client: list.append(try .init(ExtendedKeyUsage([.clientAuth]), critical: false))
            case .code: list.append(try .init(ExtendedKeyUsage([.codeSigning]), critical: false))
            case .authority: list.append(try .init(ExtendedKeyUsage([.ocspSigning]), critical: false))
            }
            // More than belongs there.
            switch odd {
            case 1: list.append(.init(oid: [1, 2, 3, 4], critical: true, value: names[...]))
            case 2: list.append(.init(oid: [1, 2, 3, 4], critical: false, value: names[...]))
            case 3: list.append(.init(oid: [2, 5, 29, 30], critical: true, value: names[...]))
            case 4: list.append(.init(oid: .X509ExtensionID.authorityKeyIdentifier, critical: false, value: names[...]))
            case 5: list.append(.init(oid: .X509ExtensionID.subjectKeyIdentifier, critical: false, value: names[...]))
            case 6: list[1] = try .init(BasicConstraints.isCertificateAuthority(maxPathLength: nil), critical: true)
            case 7: list[2] = .init(oid: .X509ExtensionID.keyUsage, critical: true, value: names[...])
            default: break
            }
            let certificate = try Certificate(
                version: .v3, serialNumber: .init(bytes: [1]), publicKey: world.key.key.publicKey,
                notValidBefore: Date(timeIntervalSince1970: Double(begin)),
                notValidAfter: Date(timeIntervalSince1970: Double(end)), issuer: signer.name,
                subject: DistinguishedName(), extensions: Certificate.Extensions(list),
                issuerPrivateKey: signer.key.key)
            var serializer = DER.Serializer()
            try serializer.serialize(certificate)
            return serializer.serializedBytes
        } catch {
            return nil
        }
    }
}
