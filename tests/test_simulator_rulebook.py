"""Rule books: what is in the file, what is wrong with it, and what the switches and declarations in it do."""

from pathlib import Path
from typing import Any

import pytest

from proxy.simulator import rulebook_file
from proxy.simulator.command import main
from proxy.simulator.rulebook_file import RulebookError
from proxy.simulator.unknowns import Unknowns
from tests.process import ROOT
from tests.talon_world import Talon, effects

FIDELITY = ROOT / "proxy" / "simulator" / "FIDELITY.md"

CHEAP = [{"sku": "pen", "quantity": 1, "price": 1.5}]

ATTRIBUTES = """
[[attributes]]
entity = "CustomerSession"
name = "Text"
type = "string"
[[attributes]]
entity = "CustomerSession"
name = "Count"
type = "number"
[[attributes]]
entity = "CustomerSession"
name = "Yes"
type = "boolean"
[[attributes]]
entity = "CustomerSession"
name = "When"
type = "time"
[[attributes]]
entity = "CustomerSession"
name = "Where"
type = "location"
[[attributes]]
entity = "CustomerSession"
name = "Texts"
type = "(list string)"
[[attributes]]
entity = "CartItem"
name = "Colour"
type = "string"
[[attributes]]
entity = "Event"
name = "Page"
type = "string"
"""


def problems(text: str) -> list[str]:
    with pytest.raises(RulebookError) as refused:
        rulebook_file.parse(text)
    return refused.value.problems


def test_the_built_in_book_states_every_switch_at_its_default() -> None:
    text = rulebook_file.default_text()

    assert rulebook_file.default().unknowns == Unknowns()
    assert all(f"\n{name} = " in text for name in Unknowns.model_fields)


def test_an_empty_book_is_a_talon_one_without_campaigns() -> None:
    talon = Talon("")

    answer = talon.put(profileId="jane", cartItems=CHEAP, couponCodes=["WELCOME10"], attributes={"anything": {}})

    assert effects(answer) == [("rejectCoupon", "CouponNotFound")]


def test_all_problems_are_told_at_once_each_with_its_place() -> None:
    found = problems(
        """
        [unknowns]
        dry_count = true
        [[campaigns]]
        name = "One"
        start = 2026-01-01T00:00:00
        rules = [
          { name = "good", then = [{ type = "addFreeItem", sku = "mug" }] },
          { name = "bad", then = [
            { type = "setDiscount", percent = 120 },
            { type = "setDiscount" },
            { type = "setDiscounts", percent = 1 },
          ] },
          { name = "none", then = [] },
        ]
        [[loyalty_programs]]
        name = "points"
        expiry = "30 days"
        """
    )

    places = [problem.split(": ")[0] for problem in found]
    assert places == [
        "unknowns.dry_count",
        "campaigns[1].start",
        "campaigns[1].rules[2].then[1].percent",
        "campaigns[1].rules[2].then[2]",
        "campaigns[1].rules[2].then[3]",
        "campaigns[1].rules[3].then",
        "loyalty_programs[1].expiry",
    ]
    assert "there is no such key" in found[0]
    assert "needs a time zone" in found[1]
    assert "give either percent or amount" in found[3]
    assert "there is no type 'setDiscounts', but 'setDiscount', " in found[4]
    assert "such as 30D" in found[6]


def test_names_that_nothing_has_are_told() -> None:
    found = problems(
        """
        achievements = [{ name = "ten", title = "Ten", campaign = "Two", target = 10 }]
        [[campaigns]]
        name = "One"
        rules = [{ name = "r", when = { audience = "a" }, then = [
          { type = "addLoyaltyPoints", program = "p", points = 1 },
          { type = "increaseAchievementProgress", achievement = "x" },
          { type = "awardGiveaway", pool = "g" },
          { type = "reserveCoupon", code = "C" },
          { type = "addToAudience", audience = "b" },
        ] }]
        """
    )

    assert found == [
        "achievements[1].campaign: there is no campaign 'Two'",
        "campaigns[1].rules[1].when.audience: there is no audience 'a'",
        "campaigns[1].rules[1].then[1].program: there is no loyalty program 'p'",
        "campaigns[1].rules[1].then[2].achievement: there is no achievement 'x'",
        "campaigns[1].rules[1].then[3].pool: there is no giveaway pool 'g'",
        "campaigns[1].rules[1].then[4].code: there is no coupon 'C'",
        "campaigns[1].rules[1].then[5].audience: there is no audience 'b'",
    ]


def test_what_two_have_is_told() -> None:
    found = problems(
        """
        campaigns = [
          { id = 4, name = "A", coupons = [{ code = "C" }] },
          { id = 4, name = "A", coupons = [{ code = "C" }] },
        ]
        """
    )

    assert found == [
        "campaigns: 2 have the id 4",
        "campaigns: 2 have the name 'A'",
        "campaigns: 2 coupons have the code 'C'",
    ]


def test_ids_that_are_left_out_are_free_numbers() -> None:
    book = rulebook_file.parse('campaigns = [{ name = "a" }, { id = 1, name = "b" }, { name = "c" }]')

    assert [campaign.id for campaign in book.campaigns] == [2, 1, 3]


@pytest.mark.parametrize(
    ("content", "problem"), [(b"= 1", "not TOML"), (b"\xff", "not UTF-8 text"), (None, "No such file")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, problem: str) -> None:
    file = tmp_path / "rules.toml"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(RulebookError) as refused:
        rulebook_file.load(file)

    (told,) = refused.value.problems
    assert told.startswith(f"{file}: {problem}")


def test_a_campaign_may_be_for_some_applications_only() -> None:
    talon = Talon('campaigns = [{ name = "a", applications = ["outlet"], coupons = [{ code = "C" }] }]')

    assert effects(talon.put(couponCodes=["C"])) == [("rejectCoupon", "CouponNotFound")]
    assert talon.call("GET", "/v1/integration/campaigns")["data"] == []


@pytest.mark.parametrize(
    ("attributes", "title", "pointer"),
    [
        ({"Other": 1}, "Unknown", "/attributes/Other"),
        ({"a/b~c": 1}, "Unknown", "/attributes/a~1b~0c"),
        ({"Text": 1}, "Invalid type", "/attributes/Text"),
        ({"Count": "1"}, "Invalid type", "/attributes/Count"),
        ({"Count": True}, "Invalid type", "/attributes/Count"),
        ({"Yes": "yes"}, "Invalid type", "/attributes/Yes"),
        ({"When": "tomorrow"}, "Invalid type", "/attributes/When"),
        ({"Where": {"latitude": 1}}, "Invalid type", "/attributes/Where"),
        ({"Texts": ["a", 1]}, "Invalid type", "/attributes/Texts"),
    ],
)
def test_an_attribute_must_be_declared_and_of_its_type(attributes: dict[str, Any], title: str, pointer: str) -> None:
    talon = Talon(ATTRIBUTES)

    refused = talon.put(attributes=attributes, expect=400)

    (error,) = refused["errors"]
    assert (refused["message"], error["title"]) == ("The submitted data was invalid", title)
    assert error["source"] == {"pointer": pointer}
    talon.call("GET", "/v2/customer_sessions/cart", expect=404)


def test_declared_attributes_of_every_type_are_taken() -> None:
    sent = {
        "Text": "a",
        "Count": 1.5,
        "Yes": False,
        "When": "2026-01-01T00:00:00+02:00",
        "Where": {"latitude": 52.5, "longitude": 13.4},
        "Texts": [],
    }

    talon = Talon(ATTRIBUTES)
    talon.put(attributes=sent)

    assert talon.session()["attributes"] == sent
    talon.put(attributes={"Text": None})


def test_all_wrong_attributes_are_told_those_of_cart_items_too() -> None:
    items = [{**CHEAP[0], "attributes": {"Colour": "red"}}, {**CHEAP[0], "attributes": {"Colour": 1, "Size": 1}}]

    refused = Talon(ATTRIBUTES).put(attributes={"Other": 1}, cartItems=items, expect=400)

    assert [error["source"]["pointer"] for error in refused["errors"]] == [
        "/attributes/Other",
        "/cartItems/1/attributes/Colour",
        "/cartItems/1/attributes/Size",
    ]


@pytest.mark.parametrize("path", ["/v2/events", "/v3/events", "/v1/events"])
def test_attributes_of_events_are_checked_and_those_of_undeclared_entities_are_not(path: str) -> None:
    talon = Talon(ATTRIBUTES)
    event = {"type": "viewed", "profileId": "jane", "integrationId": "e-1", "attributes": {"Pages": "a"}}

    refused = talon.call("POST", path, event, expect=400)

    assert refused["errors"][0]["source"] == {"pointer": "/attributes/Pages"}
    talon.call("PUT", "/v2/customer_profiles/jane", {"attributes": {"anything": 1}})


def test_what_must_hold_for_a_rule_is_told_when_it_does_not() -> None:
    talon = Talon(
        """
        [[campaigns]]
        name = "Picky"
        [[campaigns.rules]]
        name = "picky"
        when = { total_from = 1, total_below = 10, categories = ["book"], first_session = true, card = false }
        then = [{ type = "showNotification", title = "Hello" }]
        """
    )

    def reasons(**sent: Any) -> list[tuple[int, str]]:
        body = {"customerSession": sent, "responseContent": ["ruleFailureReasons"]}
        answer = talon.call("PUT", "/v2/customer_sessions/cart?dry=true", body)
        return [(reason["conditionIndex"], reason["details"]) for reason in answer["ruleFailureReasons"]]

    book = {"sku": "b", "category": "book", "quantity": 1}
    assert reasons(cartItems=[{**book, "price": 0.5}]) == [(0, "the items cost less than 1")]
    assert reasons(cartItems=[{**book, "price": 10}]) == [(1, "the items cost 10 or more")]
    assert reasons(cartItems=CHEAP) == [(2, "no item is of one of the categories")]
    assert reasons(cartItems=[{**book, "price": 5}]) == []


def test_a_dry_call_tells_which_campaigns_it_was_eligible_for() -> None:
    talon = Talon()
    body = {"customerSession": {"cartItems": CHEAP}, "responseContent": ["campaignEligibility"]}

    tried = talon.call("PUT", "/v2/customer_sessions/cart?dry=true", body)
    real = talon.call("PUT", "/v2/customer_sessions/cart", body)

    assert {campaign["name"]: campaign["eligibility"][0]["passed"] for campaign in tried["campaignEligibility"]}[
        "5 % off from 100"
    ] is False
    assert "campaignEligibility" not in real


def rows_of_the_fidelity_page() -> list[tuple[str, str, str]]:
    """Behaviour, mark and switch."""
    lines = FIDELITY.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [(what, mark, switch) for what, mark, switch in cells if mark in {"documented", "inferred", "unknown"}]


def switches(cell: str) -> set[str]:
    """What stands in backquotes and looks like a switch."""
    return {word for word in cell.split("`")[1::2] if word.isidentifier()}


def test_every_switch_is_on_the_fidelity_page_and_every_one_there_exists() -> None:
    named = {name for _, _, switch in rows_of_the_fidelity_page() for name in switches(switch)}

    assert named == set(Unknowns.model_fields)


def test_every_behaviour_on_the_fidelity_page_is_marked_and_what_is_unknown_has_a_switch_or_a_reason() -> None:
    lines = FIDELITY.read_text(encoding="utf-8").splitlines()
    rows = rows_of_the_fidelity_page()
    tables = sum(line.startswith("|---") for line in lines)

    assert len(rows) == sum(line.startswith("|") for line in lines) - 2 * tables
    assert all(switch for _, mark, switch in rows if mark == "unknown")


def test_the_built_in_rules_are_shown_and_can_be_given_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--show-rules"]) == 0
    shown = tmp_path / "rules.toml"
    shown.write_text(capsys.readouterr().out, encoding="utf-8")

    assert rulebook_file.load(shown) == rulebook_file.default()


def test_all_that_is_wrong_with_the_rules_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "rules.toml"
    wrong.write_text('shops = 1\n[unknowns]\nupdate_of_closed = "perhaps"\n', encoding="utf-8")

    assert main(["--rules", str(wrong)]) == 2

    told = capsys.readouterr().err
    assert f"{wrong}: shops: there is no such key" in told
    assert f"{wrong}: unknowns.update_of_closed: " in told
