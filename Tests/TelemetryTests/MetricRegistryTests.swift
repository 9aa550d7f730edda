// The Prometheus text format, as a scraper reads it.
import Testing

@testable import Telemetry

@Suite struct MetricRegistryTests {
    @Test func aCounterWithoutLabelsExistsFromTheStart() {
        let registry = MetricRegistry()
        let counter = registry.counter("syncs_total", "Syncs done.")
        #expect(registry.render() == "# HELP syncs_total Syncs done.\n# TYPE syncs_total counter\nsyncs_total 0\n")
        counter.add()
        counter.add(2)
        #expect(registry.render().hasSuffix("syncs_total 3\n"))
    }

    @Test func labelValuesAreEscapedAndSorted() {
        let registry = MetricRegistry()
        let gauge = registry.gauge("size", "Size.", labels: ["map"])
        gauge.set(1.5, "b\"\\\n")
        gauge.set(2, "a")
        #expect(
            registry.render() == """
                # HELP size Size.
                # TYPE size gauge
                size{map="a"} 2
                size{map="b\\"\\\\\\n"} 1.5

                """)
    }

    @Test func bucketsAreCumulative() {
        let registry = MetricRegistry()
        let histogram = registry.histogram("took_seconds", "Time.", labels: ["ip_family"], buckets: [0.5, 1])
        for value in [0.25, 0.5, 0.75, 8] { histogram.observe(value, "IPv4") }
        #expect(
            registry.render() == """
                # HELP took_seconds Time.
                # TYPE took_seconds histogram
                took_seconds_bucket{ip_family="IPv4",le="0.5"} 2
                took_seconds_bucket{ip_family="IPv4",le="1"} 3
                took_seconds_bucket{ip_family="IPv4",le="+Inf"} 4
                took_seconds_sum{ip_family="IPv4"} 9.5
                took_seconds_count{ip_family="IPv4"} 4

                """)
    }

    @Test func replaceForgetsWhatIsGone() {
        let registry = MetricRegistry()
        let gauge = registry.gauge("refused", "Refused.", labels: ["service"])
        gauge.replace([["a"]: 1, ["b"]: 2])
        gauge.replace([["b"]: 3])
        #expect(registry.render().hasSuffix("gauge\nrefused{service=\"b\"} 3\n"))
    }
}
