/// Why something could not be made or read. For people; no key is ever part of it.

package struct SigningError: Error, Equatable, Sendable, CustomStringConvertible {
    package let sentence: String
    package var description: String { sentence }

    package init(_ sentence: String) { self.sentence = sentence }
}
