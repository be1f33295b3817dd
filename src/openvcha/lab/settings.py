"""The settings of a lab's cluster, which a person may choose when the lab is created."""

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.identity import ApiSettings, StoreLimits, Timers

OPTIONS = {
    "quota_bytes": "--store-quota",
    "leader_ttl": "--leader-ttl",
    "stuck_standby": "--stuck-after",
    "stopped_store": "--peers-after",
    "replication_lag": "--lag-after",
    "workers": "--api-workers",
}
"""The options of `vcha lab up`, by the field of ``node.json`` that each sets."""


SECTIONS = ("store", "timers", "api")
"""The sections of ``node.json`` that have these fields."""


class LabSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings with which a lab was created; its first node gets them."""

    store: StoreLimits = StoreLimits()
    timers: Timers = Timers()
    api: ApiSettings = ApiSettings()


class SettingsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that a person asks for; None leaves one as it is."""

    quota_bytes: int | None = None
    leader_ttl: int | None = None
    stuck_standby: float | None = None
    stopped_store: float | None = None
    replication_lag: float | None = None
    workers: int | None = None

    @property
    def words(self) -> str:
        """Return the options that ask for the same, each after a space."""
        return _words(self._given)

    def settings(self) -> LabSettings:
        """Return the settings of a new lab. Raises msgspec.ValidationError."""
        return msgspec.convert(dict.fromkeys(SECTIONS, self._given), LabSettings)

    def differing(self, existing: LabSettings) -> str:
        """Return the options of an existing lab that differ; empty if none does."""
        sections = msgspec.to_builtins(existing)
        known = {name: value for each in SECTIONS for name, value in sections[each].items()}
        return _words({n: known[n] for n, value in self._given.items() if known[n] != value})

    @property
    def _given(self) -> dict[str, float]:
        fields = msgspec.structs.asdict(self)
        return {name: value for name, value in fields.items() if value is not None}


def _words(values: dict[str, float]) -> str:
    return "".join(f" {OPTIONS[name]} {_number(value)}" for name, value in values.items())


def _number(value: float) -> str:
    return str(int(value) if value == int(value) else value)


prepare(__name__)
