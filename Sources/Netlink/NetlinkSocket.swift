/// The only place that does netlink I/O. A socket belongs to the network namespace of the thread that opened it and
/// keeps it; all calls block.
import CLibmnl
import CLinux
import Glibc

package enum NetlinkProtocol: Int32, Sendable {
    case route = 0
    case sockDiag = 4
    case netfilter = 12
}

package final class NetlinkSocket {
    private let socket: OpaquePointer
    private var sequence: UInt32 = 0
    /// A datagram of a dump is at most 32 KB; notifications can be longer.
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 8)

    package init(_ netlinkProtocol: NetlinkProtocol) throws(NetlinkError) {
        guard let opened = mnl_socket_open2(netlinkProtocol.rawValue, Int32(SOCK_CLOEXEC.rawValue)) else {
            throw NetlinkError(operation: "open a \(netlinkProtocol) netlink socket", code: errno)
        }
        guard mnl_socket_bind(opened, 0, pid_t(MNL_SOCKET_AUTOPID)) == 0 else {
            let code = errno
            mnl_socket_close(opened)
            throw NetlinkError(operation: "bind a \(netlinkProtocol) netlink socket", code: code)
        }
        socket = opened
    }
    deinit {
        mnl_socket_close(socket)
        buffer.deallocate()
    }

    package var fileDescriptor: Int32 { mnl_socket_get_fd(socket) }
    /// The kernel's name for this socket, found in the notifications its requests cause.
    package var portID: UInt32 { mnl_socket_get_portid(socket) }

    /// Room for large requests and answers, beyond the system's limits where privileges allow.
    package func setBufferSizes(send: Int32, receive: Int32) {
        var send = send
        var receive = receive
        let size = socklen_t(MemoryLayout<Int32>.size)
        if setsockopt(fileDescriptor, SOL_SOCKET, SO_SNDBUFFORCE, &send, size) != 0 {
            setsockopt(fileDescriptor, SOL_SOCKET, SO_SNDBUF, &send, size)
        }
        if setsockopt(fileDescriptor, SOL_SOCKET, SO_RCVBUFFORCE, &receive, size) != 0 {
            setsockopt(fileDescriptor, SOL_SOCKET, SO_RCVBUF, &receive, size)
        }
    }
    package func join(group: Int32) throws(NetlinkError) {
        try setMembership(NETLINK_ADD_MEMBERSHIP, group)
    }
    package func leave(group: Int32) throws(NetlinkError) {
        try setMembership(NETLINK_DROP_MEMBERSHIP, group)
    }
    private func setMembership(_ option: Int32, _ group: Int32) throws(NetlinkError) {
        var group = group
        guard mnl_socket_setsockopt(socket, option, &group, socklen_t(MemoryLayout<Int32>.size)) == 0 else {
            throw NetlinkError(operation: "change membership of netlink group \(group)", code: errno)
        }
    }

    package func nextSequence() -> UInt32 {
        sequence = sequence == .max ? 1 : sequence + 1
        return sequence
    }
    /// For whoever numbers messages himself, counting from what `nextSequence` gave.
    package func skipSequences(through last: UInt32) { sequence = last }

    package func send(_ bytes: UnsafeRawBufferPointer, operation: String) throws(NetlinkError) {
        while true {
            let sent = mnl_socket_sendto(socket, bytes.baseAddress, bytes.count)
            if sent == bytes.count { return }
            if sent < 0, errno == EINTR { continue }
            throw NetlinkError(operation: operation, code: sent < 0 ? errno : EMSGSIZE)
        }
    }

    /// Waits for a datagram; false when none came in time. A negative timeout waits for ever.
    package func waitReadable(milliseconds: Int32) -> Bool {
        var entry = pollfd(fd: fileDescriptor, events: Int16(POLLIN), revents: 0)
        while true {
            let ready = poll(&entry, 1, milliseconds)
            if ready < 0, errno == EINTR { continue }
            return ready > 0
        }
    }

    /// Reads one datagram, waiting for it, and hands over its messages until `body` returns false.
    package func receive(
        operation: String, _ body: (borrowing NetlinkMessage) throws(NetlinkError) -> Bool
    ) throws(NetlinkError) {
        var received = -1
        repeat {
            received = mnl_socket_recvfrom(socket, buffer.baseAddress, buffer.count)
        } while received < 0 && errno == EINTR
        guard received >= 0 else { throw NetlinkError(operation: operation, code: errno) }
        var messages = MessageReader(RawSpan(_unsafeBytes: UnsafeRawBufferPointer(rebasing: buffer[..<received])))
        while let message = messages.next() {
            guard try body(message) else { return }
        }
    }
}

// MARK: Requests

extension NetlinkSocket {
    /// Sends one message and waits for its acknowledgement.
    package func request(
        type: UInt16, flags: UInt16 = 0, operation: String, _ build: (inout MessageWriter) -> Void
    ) throws(NetlinkError) {
        let number = try send(type: type, flags: flags | MessageFlag.ack, operation: operation, build)
        var finished = false
        while !finished {
            try receive(operation: operation) { message throws(NetlinkError) in
                guard message.sequence == number, let code = message.errorCode else { return true }
                guard code == 0 else { throw NetlinkError(operation: operation, code: code) }
                finished = true
                return false
            }
        }
    }

    /// Lists: collects what `read` makes of each message. Starts again when the kernel says that the list changed
    /// while it was read, so the result is consistent.
    package func list<Item>(
        type: UInt16, flags: UInt16 = MessageFlag.dump, operation: String, _ build: (inout MessageWriter) -> Void,
        read: (borrowing NetlinkMessage, inout [Item]) -> Void
    ) throws(NetlinkError) -> [Item] {
        for _ in 0..<Self.attempts {
            var items: [Item] = []
            var progress = try beginList(type: type, flags: flags, operation: operation, build)
            while !progress.isFinished { try readPart(of: &progress) { read($0, &items) } }
            if progress.isConsistent { return items }
        }
        throw NetlinkError(operation: operation, code: EINTR)
    }
    /// A table that changes all the time must not keep the caller for ever.
    private static var attempts: Int { 50 }

    private func send(
        type: UInt16, flags: UInt16, operation: String, _ build: (inout MessageWriter) -> Void
    ) throws(NetlinkError) -> UInt32 {
        var writer = MessageWriter()
        let number = nextSequence()
        let start = writer.beginMessage(type: type, flags: flags | MessageFlag.request, sequence: number)
        build(&writer)
        writer.endMessage(start)
        try writer.withUnsafeBytes { (bytes) throws(NetlinkError) in try send(bytes, operation: operation) }
        return number
    }

    /// Asks for a list that the caller reads in parts. Nothing else can be asked until its end has been read.
    package func beginList(
        type: UInt16, flags: UInt16 = MessageFlag.dump, operation: String, _ build: (inout MessageWriter) -> Void
    ) throws(NetlinkError) -> ListProgress {
        ListProgress(
            number: try send(type: type, flags: flags, operation: operation, build), operation: operation)
    }

    /// One datagram of the list.
    package func readPart(
        of progress: inout ListProgress, _ read: (borrowing NetlinkMessage) -> Void
    ) throws(NetlinkError) {
        let (number, operation) = (progress.number, progress.operation)
        var (finished, consistent) = (progress.isFinished, progress.isConsistent)
        try receive(operation: operation) { message throws(NetlinkError) in
            guard message.sequence == number else { return true }
            if message.flags & MessageFlag.dumpInterrupted != 0 { consistent = false }
            switch message.type {
            case MessageType.done, MessageType.error:
                let code = message.errorCode ?? EPROTO
                finished = true
                if code == EINTR {
                    consistent = false
                } else if code != 0 {
                    throw NetlinkError(operation: operation, code: code)
                }
            default: if consistent { read(message) }
            }
            return !finished
        }
        (progress.isFinished, progress.isConsistent) = (finished, consistent)
    }
}

/// How far a list has been read.
package struct ListProgress {
    fileprivate let number: UInt32
    fileprivate let operation: String
    package fileprivate(set) var isFinished = false
    /// False when what is listed changed meanwhile.
    package fileprivate(set) var isConsistent = true
}

// MARK: Filtering

extension NetlinkSocket {
    /// From now on the kernel does not queue datagrams that the given socket caused.
    /// Of connection tracking's events only those of flows whose destination was changed; the kernel drops the others.
    func keepTranslatedFlows() throws(NetlinkError) {
        guard clinux_keep_translated_flows(fileDescriptor) == 0 else {
            throw NetlinkError(operation: "filter conntrack events", code: errno)
        }
    }
    package func ignoreMessages(from portID: UInt32) throws(NetlinkError) {
        guard clinux_ignore_netlink_port(fileDescriptor, portID) == 0 else {
            throw NetlinkError(operation: "filter netlink notifications", code: errno)
        }
    }
}
