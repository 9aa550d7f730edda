/// Each judgement is found where its fault is, and nowhere else.
import Cluster
import Testing

@testable import Validation

@Suite struct JudgeTests {
    @Test(arguments: faultExamples) func isFound(_ example: Example) {
        let codes = report(example.text, complete: example.complete).judgements.map(\.code)
        #expect(codes.contains(example.code), "\(codes)")
    }
    @Test(arguments: faultExamples) func nearMissIsNone(_ example: Example) {
        let judgements = report(example.nearMiss, complete: example.complete).judgements
        #expect(judgements.isEmpty, "\(judgements)")
    }
    @Test(arguments: faultExamples) func orderDecidesNothing(_ example: Example) {
        // Other things being equal the first by name goes first, whichever was given first.
        var given = report(example.text, complete: example.complete)
        var reversed = report(example.text, complete: example.complete, reversed: true)
        (given.comparisons, reversed.comparisons) = (0, 0)
        #expect(given == reversed)
    }
    @Test(arguments: faultExamples) func oneObjectIsJudgedAsInTheWhole(_ example: Example) {
        let (objects, templates, _) = objects(example.text)
        for object in objects {
            var others = ObjectSet(complete: example.complete)
            for template in templates { others.add(template) }
            var whole = others
            for other in objects {
                whole.add(other)
                if other.id != object.id { others.add(other) }
            }
            let alone = judge(object, against: others).judgements.filter { $0.object == object.id }
            #expect(alone == judge(whole).judgements.filter { $0.object == object.id })
        }
    }

    @Test func whatIsNotGivenIsUnknown() {
        let alone = report(route("{\(to)}"))
        #expect(alone.judgements.isEmpty)
        #expect(alone.unjudged == "not judged: Services that were not given (shop/v1, shop/web)")
        // In a whole cluster it is missing.
        let whole = report(route("{\(to)}"), complete: [.service])
        #expect(whole.judgements.map(\.code) == ["no-parent", "invalid-backend"])
    }
    @Test func rulesThatNoPortTakesAreJudgedToo() {
        let bad = route("{matches: [{path: {type: RegularExpression, value: '/(a'}}], \(to)}")
        let codes = report(bad + service("ports: [{name: tcp-web, port: 80}]")).judgements.map(\.code)
        #expect(codes == ["not-http", "invalid-regex"])
        let gone = Set(report(bad, complete: [.service]).judgements.map(\.code))
        #expect(gone == ["no-parent", "invalid-regex"])
    }
    @Test func onlyWhatNothingElseMendsIsRefused() {
        let refused = Set(
            faultExamples.filter { report($0.text, complete: $0.complete).judgements.contains(where: \.isRefused) }.map(
                \.code))
        #expect(refused == ["invalid-regex", "unsupported-filter"])
    }
}
