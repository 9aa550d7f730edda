/// What somebody who writes the status of a route must know besides what the route says. Agents do not keep it: to them
/// a status is no change of a route.

package struct RouteRecord: Equatable, Sendable, Codable {
    /// One of `status.parents`, whoever wrote it.
    package struct Entry: Equatable, Sendable, Codable {
        package var controllerName: String
        /// As it stands in the object, byte for byte.
        package var json: [UInt8]

        package init(controllerName: String, json: [UInt8]) {
            self.controllerName = controllerName
            self.json = json
        }
    }
    package var resourceVersion = ""
    package var generation: Int64 = 0
    /// The namespace of each of the route's `parents` as written; nil: left out.
    package var parentNamespaces: [String?] = []
    package var entries: [Entry] = []

    package init() {}
}
