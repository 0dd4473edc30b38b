"""What a user should know of a finished run beside its numbers, each as one sentence."""

from skyfan.missing import NOT_FINITE, SENTINEL
from skyfan.records import CatalogJoin, Summary
from skyfan.units import counted

# More samples than this without a prediction because of their inputs: probably a column that is like that.
NOTICED_SHARE = 0.01


def warnings(summary: Summary) -> list[str]:
    """Of values that stand for missing ones, IDs that occur twice, and ranks that lost the others."""
    found = [
        f"{count:,} samples have what catalogues write for missing values in {column} (such as 99 or -99), and were "
        "predicted with it; --sentinel 99,-99 makes them missing."
        for column, count in summary.undeclared_sentinels.items()
        if column == "magnitude"
    ]
    found += _of_catalog(summary.catalog) if summary.catalog else []
    if summary.left_out:
        found.append(
            f"not read, as it is neither numbers nor text of every sample: {', '.join(summary.left_out)}; what you "
            "need of it belongs into columns of as many rows, or into a --catalog."
        )
    if summary.trained_samples:
        found.append(trained_note(summary))
    ids = summary.ids
    if ids and ids.duplicates:
        found.append(f"{ids.duplicates:,} rows have an ID in {ids.column} that an earlier row has.")
    if ids and ids.nulls:
        found.append(f"{ids.nulls:,} rows have no ID in {ids.column}.")
    met = summary.collectives
    if met and met.errors:
        rank, error = min(met.errors.items())
        found.append(
            f"{met.ranks - met.complete} of {met.ranks} ranks ended without the others' results, such as rank {rank}: "
            f"{error} Predictions are not touched by that."
        )
    return found


def trained_note(summary: Summary) -> str:
    """That the model knows some of the galaxies, and where there are metrics of the others."""
    unseen = summary.science_unseen
    others = (
        f"metrics of the other {unseen['samples']:,.0f} are given, too."
        if unseen and unseen.get("samples")
        else "skyfan data simulate --subset test has none of these."
    )
    return (
        f"{summary.trained_samples:,} of {summary.samples:,} galaxies are renderings of, or have the redshift of, one "
        f"that this model was trained on: metrics over all are not those of new galaxies; {others}"
    )


def _of_catalog(join: CatalogJoin) -> list[str]:
    """What a join left open on either side."""
    found = []
    if join.samples_unmatched:
        named = ", ".join(join.first_unmatched)
        more = ", …" if join.samples_unmatched > len(join.first_unmatched) else ""
        found.append(
            f"{counted(join.samples_unmatched, 'sample')} without a row in {join.uri}, whose columns are empty there: "
            f"{join.joined_by} {named}{more}."
        )
    if join.duplicates:
        found.append(f"{counted(join.duplicates, 'row')} of {join.uri} with an ID of an earlier row: not used.")
    return found


def missing_hint(summary: Summary) -> str:
    """The option that helps where more than `NOTICED_SHARE` of the samples lack a value in their inputs; else empty."""
    starts = tuple(text.format("") for text in (NOT_FINITE, SENTINEL))
    reasons = summary.completeness.missing_reasons.items()
    lacking = sum(count for reason, count in reasons if reason.startswith(starts))
    if lacking <= NOTICED_SHARE * summary.samples:
        return ""
    return " --missing [COLUMN=]zero or quantile:Q replaces missing values, and predicts such samples, too."
