"""List prices by region, from one dated file.

The packaged file is `prices.json`. The option `--prices` or the variable SKYFAN_PRICES names another file of the same
form, where prices have changed or a region is missing.
"""

import functools
import json
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, ValidationError

from skyfan.errors import BadInput
from skyfan.settings import CostSettings, read, variable
from skyfan.validation import Frozen, first_problem

Architecture = Literal["x86_64", "arm64"]

PRICES_VARIABLE = variable(CostSettings, "prices")
_PACKAGED = Path(__file__).with_name("prices.json")


class RegionPrices(Frozen):
    """US dollars per unit in one region. GB is 2³⁰ bytes; `_gb_s` is one GB held for one second."""

    lambda_gb_s: dict[Architecture, float]
    lambda_request: float = Field(ge=0)
    lambda_ephemeral_gb_s: float = Field(ge=0, description="only above the 512 MB that every function has")
    transition: float = Field(ge=0, description="one state transition of a Standard workflow")
    express_request: float = Field(ge=0)
    express_gb_s: float = Field(ge=0)
    s3_put: float = Field(ge=0, description="one PUT, COPY, POST or LIST")
    s3_get: float = Field(ge=0)
    s3_gb_month: float = Field(ge=0)
    logs_ingested_gb: float = Field(ge=0)
    logs_stored_gb_month: float = Field(ge=0)
    fargate_vcpu_h: float = Field(ge=0)
    fargate_gb_h: float = Field(ge=0)
    ec2_h: dict[str, NonNegativeFloat] = Field({}, description="an instance by type, Linux, on demand")
    sagemaker_processing_h: dict[str, NonNegativeFloat] = Field({}, description="an instance of a processing job")
    public_ipv4_h: float = Field(0.0, ge=0, description="one public address in use")

    def instance_h(self, kind: str) -> float:
        """An hour of an EC2 instance with its public address, or of one of SageMaker's (`ml.…`).

        Raises:
            BadInput: the file has no price of it.
        """
        listed, address_h = (
            (self.sagemaker_processing_h, 0.0) if kind.startswith("ml.") else (self.ec2_h, self.public_ipv4_h)
        )
        if kind not in listed:
            raise BadInput(f"the price file has no price of {kind}; add it, or take the packaged file.")
        return listed[kind] + address_h


class Prices(Frozen):
    """The whole price file."""

    schema_: Literal["skyfan.prices/1"] = Field(alias="schema")
    dated: str
    currency: Literal["USD"]
    note: str
    sources: dict[str, str]
    regions: dict[str, RegionPrices]

    def region(self, name: str) -> RegionPrices:
        """Prices of one region.

        Raises:
            BadInput: the file has no prices of this region.
        """
        if name not in self.regions:
            raise BadInput(
                f"no prices for region {name!r} in the file of {self.dated} (it has {', '.join(self.regions)}); "
                f"name a file with them by --prices or {PRICES_VARIABLE}."
            )
        return self.regions[name]


@functools.cache
def _load(path: Path) -> Prices:
    try:
        return Prices.model_validate(json.loads(path.read_text()))
    except OSError as error:
        raise BadInput(f"price file {path} cannot be read ({error.strerror}); check the name.") from error
    except json.JSONDecodeError as error:
        raise BadInput(f"price file {path} is not JSON: {error}.") from error
    except ValidationError as error:
        raise BadInput(f"price file {path}, {first_problem(error)}") from error


def load_prices(path: str | Path | None = None) -> Prices:
    """The price file at `path`, else the one that SKYFAN_PRICES names, else the packaged one.

    Raises:
        BadInput: the file cannot be read or is not a price file.
    """
    return _load(Path(path or read(CostSettings).prices or _PACKAGED))


def priced_region(prices: Prices, region: str) -> str:
    """`region` where the price file has it, else us-east-1, whose prices are near."""
    return region if region in prices.regions else "us-east-1"
