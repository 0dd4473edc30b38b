"""Bills against sums done by hand at the list prices of us-east-1."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfan.cost import Invocation, Usage, bill, load_prices
from skyfan.errors import BadInput

PRICES = load_prices()


def items(usage: Usage, region: str = "us-east-1") -> dict[str, float]:
    return {item.name: item.usd for item in bill(usage, PRICES, region).items}


def test_lambda_bills_configured_memory_for_duration_with_init():
    # The published log line: 40,243.33 ms + 663.81 ms of init = 40,908 ms billed, 10,240 MB = 10 GB.
    invocation = Invocation(duration_s=40.24333, init_s=0.66381)
    assert invocation.billed_s == 40.908
    found = items(Usage([invocation]))
    assert found["Lambda compute"] == pytest.approx(40.908 * 10 * 0.0000166667, rel=1e-12)
    assert found["Lambda requests"] == pytest.approx(0.0000002)


def test_durations_are_rounded_up_to_milliseconds():
    assert Invocation(0.0001).billed_s == 0.001
    assert Invocation(40.908).billed_s == 40.908  # 40.908 * 1000 is a little above 40908 in floating point
    assert Invocation(1.0, 0.0005).billed_s == 1.001


def test_a_hundred_ranks_of_arm_by_hand():
    usage = Usage(
        invocations=[Invocation(12.0)] * 100,
        memory_mb=4096,
        architecture="arm64",
        ephemeral_mb=1536,
        transitions=204,
        s3_puts=205,
        s3_gets=1500,
        log_bytes=2**30,
        stored_bytes=2 * 2**30,
        kept_days=15,
    )
    found = items(usage)
    assert found["Lambda compute"] == pytest.approx(1200 * 4 * 0.0000133334)
    assert found["Lambda requests"] == pytest.approx(0.00002)
    assert found["Lambda ephemeral storage"] == pytest.approx(1200 * 1 * 0.0000000309)
    assert found["Step Functions transitions"] == pytest.approx(0.0051)
    assert found["S3 PUT"] == pytest.approx(0.001025)
    assert found["S3 GET"] == pytest.approx(0.0006)
    assert found["S3 storage"] == pytest.approx(0.023)
    assert found["Logs ingested"] == pytest.approx(0.50)
    assert found["Logs stored"] == pytest.approx(0.015)
    assert bill(usage, PRICES).total_usd == pytest.approx(sum(found.values()))


def test_express_children_are_billed_by_steps_of_100_ms_and_64_mb():
    found = items(Usage([], express_durations_s=[0.25, 1.0]))
    assert found["Step Functions Express requests"] == pytest.approx(2e-6)
    assert found["Step Functions Express memory"] == pytest.approx((0.3 + 1.0) / 16 * 0.00001667)


def test_the_seeds_table_was_wrong_by_the_number_of_invocations():
    # Team 4 printed $83.27 for 3,633.4 s of 2.8 GB in 491 invocations; Lambda's price for it is $0.17.
    compute = 3633.4 * 2.8 * 0.0000166667
    assert compute == pytest.approx(0.1696, abs=1e-4)
    assert compute * 491 == pytest.approx(83.27, rel=0.01)


def test_bill_becomes_the_summarys_cost():
    cost = bill(Usage([Invocation(1.0)], memory_mb=1024), PRICES).as_cost("by hand")
    assert cost.total_usd == pytest.approx(0.0000166667 + 0.0000002)
    assert cost.items_usd["Lambda compute"] == pytest.approx(0.0000166667)
    assert (cost.basis, cost.prices_dated) == ("by hand", PRICES.dated)


@given(
    st.lists(st.floats(0, 900), max_size=20),
    st.integers(128, 10_240),
    st.integers(0, 10**6),
    st.integers(0, 10**12),
)
def test_no_line_is_negative_and_more_memory_never_costs_less(durations, memory_mb, count, size_bytes):
    def usage(mb: int) -> Usage:
        return Usage([Invocation(s) for s in durations], mb, s3_gets=count, transitions=count, stored_bytes=size_bytes)

    smaller, larger = bill(usage(memory_mb), PRICES), bill(usage(10_240), PRICES)
    assert all(item.usd >= 0 for item in smaller.items)
    assert smaller.total_usd <= larger.total_usd


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Usage([], memory_mb=64), "64 MB does not exist"),
        (lambda: Usage([], s3_gets=-1), "s3_gets is -1"),
        (lambda: Invocation(-1.0), "neither can be < 0"),
        (lambda: PRICES.region("mars-1"), "no prices for region 'mars-1'"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(make, sentence):
    with pytest.raises(BadInput, match=sentence):
        make()


def test_another_price_file(tmp_path, monkeypatch):
    packaged = PRICES.model_dump(by_alias=True)
    packaged["regions"] = {"eu-test-1": {**packaged["regions"]["us-east-1"], "transition": 0.5}}
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(packaged))
    monkeypatch.setenv("SKYFAN_PRICES", str(path))
    assert bill(Usage([], transitions=2), load_prices(), "eu-test-1").total_usd == 1.0


@pytest.mark.parametrize(
    ("text", "sentence"), [("{", "is not JSON"), ('{"dated": "x"}', "schema: Field required"), (None, "cannot be read")]
)
def test_a_bad_price_file_says_what_is_wrong(tmp_path, text, sentence):
    path = tmp_path / "prices.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=sentence):
        load_prices(path)
