"""Which warm containers are wanted."""

from runner.engine import ContainerSpec, Limits
from runner.warm_demand import KEEP_S, Demand, Kind


def kind(image: str = "a", image_id: str = "sha256:1") -> Kind:
    return Kind(image=image, image_id=image_id, limits=Limits(), network_mode="", runtime="")


def spec(**fields: object) -> ContainerSpec:
    return ContainerSpec(**({"name": "x", "image": "a", "end_line": "end-1"} | fields))  # type: ignore[arg-type]


def test_containers_are_of_one_kind_when_a_run_cannot_tell_them_apart() -> None:
    first = Kind.of(spec(name="one", end_line="end-1", labels={"run": "1"}), "sha256:1")
    second = Kind.of(spec(name="two", end_line="end-2", labels={"run": "2"}), "sha256:1")
    assert first == second


def test_other_limits_networks_runtimes_and_images_are_other_kinds() -> None:
    different = [
        Kind.of(spec(), "sha256:1"),
        Kind.of(spec(), "sha256:2"),
        Kind.of(spec(image="b"), "sha256:1"),
        Kind.of(spec(limits=Limits(pids=7)), "sha256:1"),
        Kind.of(spec(network_mode="none"), "sha256:1"),
        Kind.of(spec(runtime="runsc"), "sha256:1"),
    ]
    assert len(set(different)) == len(different)


def test_a_container_with_a_mount_cannot_wait() -> None:
    assert Kind.of(spec(mounts=("/srv/cache:/cache:ro",)), "sha256:1") is None


def test_nothing_is_wanted_before_a_run_asked_for_it() -> None:
    assert Demand(per_kind=2, total=4).wanted(0) == {}


def test_a_kind_in_use_is_wanted_so_often_and_missing_until_it_is_there() -> None:
    demand = Demand(per_kind=2, total=4)
    demand.note(kind(), 0)
    assert demand.wanted(1) == {kind(): 2}
    assert demand.missing({kind(): 1}, 1) == kind()
    assert demand.missing({kind(): 2}, 1) is None


def test_a_kind_is_let_go_when_no_run_asked_for_so_long() -> None:
    demand = Demand(per_kind=2, total=4)
    demand.note(kind(), 0)
    assert demand.wanted(KEEP_S - 1) == {kind(): 2}
    assert demand.wanted(KEEP_S) == {}


def test_what_a_name_meant_before_is_not_wanted_any_more() -> None:
    demand = Demand(per_kind=1, total=4)
    demand.note(kind(image_id="sha256:1"), 0)
    demand.note(kind(image="b", image_id="sha256:9"), 1)
    demand.note(kind(image_id="sha256:2"), 2)
    assert set(demand.wanted(3)) == {kind(image_id="sha256:2"), kind(image="b", image_id="sha256:9")}


def test_each_kind_gets_one_before_any_gets_its_second_and_the_latest_come_first() -> None:
    demand = Demand(per_kind=2, total=4)
    for second, image in enumerate("abc"):
        demand.note(kind(image), second)
    assert demand.wanted(3) == {kind("c"): 2, kind("b"): 1, kind("a"): 1}


def test_there_are_never_more_than_the_total() -> None:
    demand = Demand(per_kind=3, total=2)
    for second, image in enumerate("abc"):
        demand.note(kind(image), second)
    assert demand.wanted(3) == {kind("c"): 1, kind("b"): 1}


def test_a_pool_of_none_wants_none() -> None:
    demand = Demand(per_kind=0, total=4)
    demand.note(kind(), 0)
    assert demand.missing({}, 0) is None


def test_a_forgotten_kind_is_wanted_again_when_a_run_asks_again() -> None:
    demand = Demand(per_kind=1, total=4)
    demand.note(kind(), 0)
    demand.forget(kind())
    assert demand.wanted(1) == {}
    demand.note(kind(), 2)
    assert demand.wanted(3) == {kind(): 1}
