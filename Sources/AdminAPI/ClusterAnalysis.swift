/// What is wrong with the objects of a cluster, as the controller judges them when it is asked.

package struct ClusterAnalysis: Codable, Sendable, Equatable {
    package struct Entry: Codable, Sendable, Equatable {
        /// `error` or `warning`
        package var severity: String
        /// `no-endpoints`: a row of docs/analyze.md.
        package var code: String
        /// `HTTPRoute shop/canary`
        package var object: String
        /// Empty: the object as a whole.
        package var field: String
        package var message: String

        package init(severity: String, code: String, object: String, field: String, message: String) {
            (self.severity, self.code, self.object, self.field) = (severity, code, object, field)
            self.message = message
        }
    }
    /// Errors first, and no more than `maximumEntries`.
    package var entries: [Entry] = []
    /// Of all there are.
    package var errors = 0
    package var warnings = 0
    /// That were judged.
    package var objects = 0
    /// What was not judged, in a line each.
    package var notes: [String] = []

    package static let maximumEntries = 1000

    package init() {}
}
