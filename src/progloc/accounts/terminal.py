"""An audit in the terminal: the verdict, its reasons, and the blocks the answer rested on."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from progloc.accounts.account import Account
from progloc.accounts.schema import Audit, Cost, Examination
from progloc.accounts.verdict import NOT_FAITHFUL, SUPPORTED
from progloc.report.formats import counted, layers_named
from progloc.report.printing import one_line, with_title

STYLES = {SUPPORTED: "bold green", NOT_FAITHFUL: "bold red"}
SHOWN = 8
"""How many blocks the table lists."""
NUMBER_WIDTH = 6


class AuditProgress:
    """How far an audit is, on a bar over its forward passes; their number is printed before they start."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("writing the answer", total=None)

    def note(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, style="dim", soft_wrap=True)

    def announce(self, cost: Cost) -> None:
        """Print the cost of the audit, and set the bar's total."""
        self.note(f"{counted(cost.passes, 'forward pass')} over at most {counted(cost.tokens, 'token')}")
        self._bar.update(self._task, description="testing the picture", total=cost.passes)

    def announce_subsets(self, subsets: int) -> None:
        """Print how many subsets of the sources are to be read, and set the bar's total."""
        self.note(f"{counted(subsets, 'subset')} of the sources to read the answer with")
        self._bar.update(self._task, description="leaving sources out", total=subsets)

    def advance(self, passes: int) -> None:
        """Count further passes."""
        self._bar.update(self._task, advance=passes)


def audit_summary(audit: Audit) -> Group:
    """Return the verdict with its reasons, the blocks with the most mass, and how the base compares."""
    parts: list[RenderableType] = [
        Text.assemble(("Verdict: ", "bold"), (audit.verdict, STYLES.get(audit.verdict, "bold yellow"))),
        *(Padding(reason, (0, 0, 0, 2), expand=False) for reason in audit.examined.reasons),
        *(() if audit.localised else [f"{audit.examined.model} is not localised: λ is 0 in every layer."]),
        _block_table(audit),
        _test_line(audit.examined),
    ]
    if audit.base is not None:
        parts.append(f"Beside it, {audit.base.model}: {audit.base.verdict}. {_test_line(audit.base)}")
    return Group(*parts)


def account_summary(account: Account) -> Group:
    """Return what the answer rests on in words, and each source's worth."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("source", overflow="ellipsis")
    for heading in ("effect, nats", "fair share", "attention"):
        table.add_column(heading, justify="right")
    for source in sorted(account.sources, key=lambda source: -account.worth[source.name])[:SHOWN]:
        share = "" if source.shapley is None else f"{source.shapley:+.2f}"
        error = f" ± {source.shapley_error:.2f}" if source.shapley_error else ""
        mass = "" if source.mass is None else f"{source.mass:.1%}"
        table.add_row(one_line(source.name), f"{source.effect:+.2f}", share + error, mass)
    answer = f"The answer: {one_line(account.answer)}"
    return Group(with_title(account.sentence(), table, answer), account.price_sentence())


def _block_table(audit: Audit) -> Group:
    layers = layers_named([layer.layer for layer in audit.examined.layers])
    title = f"What the answer rested on, {layers}, without the mass on the first token"
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("block", "share", "removed, nats"):
        table.add_column(heading, justify="right", min_width=max(len(heading), NUMBER_WIDTH))
    table.add_column("text", no_wrap=True, overflow="ellipsis")
    masses, texts = audit.examined.picture.mass_no_sink, audit.block_texts
    effects = {tested.block: tested.removal for tested in audit.examined.tested}
    for block in masses.argsort()[::-1][:SHOWN].tolist():
        effect = f"{effects[block]:+.2f}" if block in effects else ""
        table.add_row(str(block), f"{masses[block]:.1%}", effect, one_line(texts[block]))
    own = audit.examined.picture.answer_share["mass_no_sink"]
    shares = f"Shares are of the prompt: {own:.1%} of all attention was on the answer's own words."
    return with_title(title, table, f"{shares}\nThe answer: {one_line(audit.answer)}")


def _test_line(examined: Examination) -> str:
    """Return one line: rank correlation with its interval, comprehensiveness, sufficiency."""
    tests = examined.faithfulness
    if tests is None:
        return "Nothing could be tested."
    correlation = tests.correlation()
    rho = (
        "undefined"
        if correlation.rho is None
        else f"{correlation.rho:.2f} [{correlation.low:.2f}, {correlation.high:.2f}]"
    )
    shares = {"comprehensiveness": tests.comprehensiveness, "sufficiency": tests.sufficiency}
    listed = ", ".join(f"{name} {value:.2f}" for name, value in shares.items() if value is not None)
    return f"Rank correlation of mass with the effect of removal {rho}; {listed}."
