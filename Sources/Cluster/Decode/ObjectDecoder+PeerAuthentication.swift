/// Istio's PeerAuthentication: modes, for all pods that are meant and for some of their ports.

extension ObjectDecoder {
    mutating func peerAuthentication(_ reader: inout some Reader) throws(DecodeError) -> PeerAuthentication {
        var policy = PeerAuthentication(name: ObjectName("", ""))
        let metadata = try object(&reader, isNamespaced: true, labels: .ours) {
            (decoder, reader, key) throws(DecodeError) in
            guard case "spec" = key else { return try reader.skip() }
            try reader.fields { (reader, key) throws(DecodeError) in
                switch key {
                case "selector":
                    try reader.fields { (reader, key) throws(DecodeError) in
                        guard case "matchLabels" = key else { return try reader.skip() }
                        policy.selector = try reader.stringMap()
                    }
                case "mtls": policy.mode = try decoder.peerMode(&reader)
                case "portLevelMtls":
                    try reader.fields { (reader, key) throws(DecodeError) in
                        let line = reader.line
                        guard let port = UInt16(key.string), port > 0 else {
                            throw DecodeError("\(quoted(key.string)) is no port; use 1 to 65535", line: line)
                        }
                        policy.portModes.updateValue(try decoder.peerMode(&reader), forKey: port)
                    }
                default: try reader.skip()
                }
            }
        }
        policy.name = metadata.name
        policy.creationTime = metadata.creationTime
        return policy
    }

    /// nil: nothing is said.
    private func peerMode(_ reader: inout some Reader) throws(DecodeError) -> PeerAuthentication.Mode? {
        var mode: PeerAuthentication.Mode?
        try reader.fields { (reader, key) throws(DecodeError) in
            guard case "mode" = key else { return try reader.skip() }
            let line = reader.line
            let text = try reader.string()
            mode = PeerAuthentication.Mode(rawValue: text)
            guard mode != nil || text.isEmpty || text == "UNSET" else {
                throw DecodeError(
                    "\(quoted(text)) is unknown; use one of UNSET, DISABLE, PERMISSIVE, STRICT", line: line)
            }
        }
        return mode
    }
}
