"""What each master is asked, what it finds and what it does: sentences with slots, filled by ``work``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Trade:
    """One type of task: how it is asked for, what is found and what is done about it, each in step with the others.

    The second question is answered by the second finding and remedy; where one runs out, it starts again.
    """

    task_type: str
    asks: tuple[str, ...]
    findings: tuple[str, ...]
    remedies: tuple[str, ...]


TRADES: Final[Mapping[str, tuple[Trade, ...]]] = {
    "security-master": (
        Trade(
            "vulnerability-scan",
            (
                "Scan {service} for advisory ADV-2025-{serial} and say whether {package} {old} is reachable.",
                "Advisory ADV-2025-{serial} names {package} below {new}. Check whether {service} is exposed.",
                "Go through the dependencies of {service} and list all that fall under ADV-2025-{serial}.",
            ),
            (
                (
                    "{service} pins {package} {old}, which ADV-2025-{serial} covers; the unsafe call is reached from "
                    "the {part} in {file}."
                ),
                (
                    "{package} {old} is present in {n} lock files of {service}. Only the {part} calls into it, with "
                    "input that {team} controls, so the {level} rating stands."
                ),
            ),
            (
                "Raised {package} to {new} and re-ran {m} tests; the scanner now reports 0 findings.",
                "Until {new} can be rolled out, the {part} refuses bodies above {n} KiB, which closes the known path.",
            ),
        ),
        Trade(
            "secret-audit",
            (
                "A key of {service} may have leaked through pull request #{pr}. Find out and tell {team}.",
                "Look for credentials committed to {service} during the last {n} weeks, {file} included.",
            ),
            (
                "Pull request #{pr} added a live token to {file}; it was valid for {n} days and used from {cluster}.",
                (
                    "Walked {m} commits of {service}. {n} strings look like keys, all of them test fixtures; one, in "
                    "{file}, is real."
                ),
            ),
            (
                (
                    "The token is revoked, its replacement sits in the vault under “{service}/{environment}”, and a "
                    "hook now stops such commits."
                ),
                "Asked {team} to rotate it, and added the pattern to the pre-receive check with {n} examples.",
            ),
        ),
        Trade(
            "access-review",
            (
                "Review who may deploy {service} to {environment} and propose what can be taken away.",
                "Is the {part} of {service} open to accounts outside {team}? Review the {n} roles.",
            ),
            (
                "{n} of {m} accounts have not used their right to touch {service} in 90 days.",
                "Role “{service}-operator” grants writes on {cluster} although only the {part} needs them.",
            ),
            (
                "Proposed the removal of {n} grants; {team} has agreed and the change waits for one approval.",
                "Split the role in two, reader and operator, and moved {n} accounts to the reader.",
            ),
        ),
    ),
    "development-master": (
        Trade(
            "bug-fix",
            (
                "The {part} of {service} returns a wrong result when {n} requests arrive within one second. Fix it.",
                "Since {new}, {service} takes new items for duplicates in its {part}. Find the cause and add a test.",
                "Users of {team} see the {part} hang after {m} items. Repair {service} without changing its API.",
            ),
            (
                "{file} shared one buffer between calls, so two requests to the {part} could swap their results.",
                "The {part} compared a local time with a UTC one; off by an hour, it took item {m} for a duplicate.",
                "An early return in {file} skipped the unlock, and the next caller waited for {n} s.",
            ),
            (
                "Each call now owns its buffer. A test with {n} parallel callers fails before and passes after.",
                "Converted both sides at the boundary and covered {n} cases with a table test; {m} tests pass.",
                "It unlocks on every way out now, and a run over {slow} items ends; {m} tests pass.",
            ),
        ),
        Trade(
            "feature",
            (
                "Add a limit of {m} items a page to the {part} of {service}, with a sensible error above it.",
                "Let {team} switch off the {part} of {service} per customer, without a restart.",
                "{service} should accept batches of up to {m} entries in its {part}.",
            ),
            (
                (
                    "The limit lives in {file} beside the other settings of {service}; above it callers get code 422 "
                    "and the allowed range."
                ),
                "A flag per customer is read every {n} s; the {part} finishes what it has begun and then stays out.",
            ),
            (
                "Documented it, with {n} examples, and opened pull request #{pr}; the suite of {m} tests is green.",
                "Measured on {m} entries: {n} ms against {slow} ms before; pull request #{pr} waits for review.",
            ),
        ),
        Trade(
            "refactor",
            (
                "{file} in {service} has grown to {slow} lines. Split it along what it does, behaviour unchanged.",
                "Take {package} out of {service}: only the {part} still uses it.",
            ),
            (
                "Three concerns were mixed in {file}: reading, deciding and storing; deciding is pure now.",
                "The {part} used {n} functions of {package}; the standard library has equals for all but one.",
            ),
            (
                "No public name moved. Coverage went from {n} to {pct} percent, and {m} tests pass untouched.",
                "Wrote the missing one in {n} lines with its own tests, and dropped the dependency.",
            ),
        ),
    ),
    "inventory-master": (
        Trade(
            "catalog",
            (
                "Bring the catalogue entry of {service} up to date: owner, language, {package} version, runtime.",
                "List every repository of {team} that still depends on {package} {old}.",
                "Which services on {cluster} have no owner? Start with {service}.",
            ),
            (
                "{service} belongs to {team}, runs on {cluster} and uses {package} {new}; the entry still said {old}.",
                "Found {n} repositories on {package} {old}, among them {service}; {m} others have moved to {new}.",
            ),
            (
                "Updated {n} fields and linked the source of each, so that the next run can check them by itself.",
                "Wrote the list to the catalogue, sorted by last commit, and told {team} about the {n} stale ones.",
            ),
        ),
        Trade(
            "licence-report",
            (
                "Report the licences in the dependency tree of {service}, marking all that {team} may not ship.",
                "Does moving {service} to {package} {new} bring in a licence we have not cleared?",
            ),
            (
                "{m} packages in the tree of {service}: all permissive but {n}, which sit behind the {part} only.",
                "{package} {new} itself is unchanged; one of its {n} new dependencies is under a copyleft licence.",
            ),
            (
                "Suggested {package} {old} until legal has answered, and attached the tree as a table.",
                "The {n} in question are build-time tools and are not shipped; noted so beside each.",
            ),
        ),
        Trade(
            "usage-census",
            (
                "Count the callers of the {part} in {service} over {n} weeks and name the {n} busiest.",
                "Is anything still calling {service} {old} in {environment}?",
            ),
            (
                "{m} callers in all; {team} makes {pct} percent of the calls, most of them from {cluster}.",
                "{n} jobs in {environment} still address {old}, at about {slow} calls an hour.",
            ),
            (
                "Put the table beside the entry of {service}, with the query that made it.",
                "Opened {n} tickets, one a job, with the line to change and {new} as the target.",
            ),
        ),
    ),
    "cicd-master": (
        Trade(
            "pipeline-repair",
            (
                "The build of {service} has been red since pull request #{pr}. Get it green and say why it broke.",
                "Step “{part}” in the pipeline of {service} takes {slow} s. Bring it below {m} s.",
                "Builds of {service} on {cluster} fail about {pct} percent of the time. Find the flake.",
            ),
            (
                "Pull request #{pr} raised {package} to {new}, whose wheel is missing for the runner on {cluster}.",
                "The cache key held the build number, so {package} was fetched {n} times in each build.",
                "Two jobs wrote to one folder; whoever came second lost {n} files.",
            ),
            (
                "Pinned {package} {old} with a note and a date; the last {n} builds are green.",
                "Keyed the cache on the lock file: {m} s instead of {slow} s over {n} runs.",
                "Gave each job a folder of its own; {m} builds in a row are green.",
            ),
        ),
        Trade(
            "release",
            (
                "Release {service} {new} to {environment}, stopping at the first alarm.",
                "Cut {service} {new} from main, with notes made from the pull requests since {old}.",
            ),
            (
                (
                    "{service} {new} reached {pct} percent of {environment} in {n} steps; errors stayed below {n} in "
                    "10,000 throughout."
                ),
                "{m} pull requests since {old}: {n} features, the rest repairs; #{pr} needs a migration first.",
            ),
            (
                "Checked the {part} by hand on {cluster} and kept {old} ready for a day.",
                "Tagged, signed and announced to {team}; the migration is the first item of the notes.",
            ),
        ),
        Trade(
            "rollback-drill",
            (
                "Rehearse the way back from {service} {new} to {old} in {environment} and time it.",
                "Could {service} be rolled back on {cluster} with the {part} switched on? Try it.",
            ),
            (
                "Back on {old} after {m} s; {n} of them went into draining the {part}.",
                "Yes, but {n} messages written by {new} cannot be read by {old} and stay in the queue.",
            ),
            (
                "Shortened the drain to {n} s and wrote the steps into the runbook of {service}.",
                "Taught {old} to skip what it does not know, and repeated the drill {n} times without a loss.",
            ),
        ),
    ),
    "infrastructure-master": (
        Trade(
            "capacity",
            (
                "{cluster} is at {pct} percent of its memory. Find out what {service} needs and right-size it.",
                "How many workers does the {part} of {service} want for {slow} jobs an hour?",
            ),
            (
                "{service} asks for {n} GiB and has not used more than a third of it in {m} days.",
                "One worker does {m} jobs an hour before its latency doubles; the {part} is bound by the network.",
            ),
            (
                "Lowered the request with {pct} percent head-room and an alarm; {n} nodes can go.",
                "Recommended {n} workers and a queue limit of {slow}, with the load test to repeat it.",
            ),
        ),
        Trade(
            "incident",
            (
                "{service} in {environment} has been slow since {n} o'clock. Find the cause and stop the bleeding.",
                "Disk on {cluster} fills by {n} GiB an hour, and {service} writes most of it. Look into it.",
                "Certificate of {service} on {cluster} runs out in {n} days. Renew it and prevent the next one.",
            ),
            (
                "The {part} opened a connection a call and used up all {slow} ports after {m} s.",
                "Debug logging was left on after the release of {new}; {pct} percent of the volume is one line.",
                "The renewal job had failed {n} times with nobody told, as its alarm went to a closed channel.",
            ),
            (
                "Pooled the connections ({n} a worker): p95 fell from {slow} ms to {m} ms within minutes.",
                "Set the level back, rotated {n} GiB away and added an alarm at {pct} percent.",
                "Renewed, routed the alarm to {team}, and let the probe fail {n} days ahead.",
            ),
        ),
        Trade(
            "migration-plan",
            (
                "Plan the move of {service} from {cluster} to a managed queue without losing a message.",
                "Plan how {service} gets from {package} {old} to {new} on all {n} nodes of {cluster}.",
            ),
            (
                "{service} has {n} producers and one consumer, the {part}; only its offsets hold state.",
                "{old} and {new} can run side by side as long as the {part} writes the old format.",
            ),
            (
                "Four steps: write to both, compare for {n} days, read the new, remove the old; each can be undone.",
                "One node an hour, {n} hours in all, halted when errors pass {pct} in 10,000.",
            ),
        ),
    ),
    "testing-master": (
        Trade(
            "test-plan",
            (
                "Write test cases for the {part} of {service}, edge cases first.",
                "What should be tested before {service} {new} goes to {environment}?",
            ),
            (
                (
                    "{n} cases: nothing, one, the limit ({m}), one above it, two at once, a cut connection, a clock "
                    "that steps back."
                ),
                "Three risks: the {part} under load, data written by {old}, and {package} {new}.",
            ),
            (
                "Wrote them as one table in the suite of {service}; {n} fail today and are marked with a ticket.",
                "For each, the check, who runs it and what stops the release; about {n} minutes in all.",
            ),
        ),
        Trade(
            "flaky-test",
            (
                "A test of the {part} in {service} fails once in {m} runs. Make it steady or remove it.",
                "Find the flaky tests among those of {file} in {service} and rank them by cost.",
            ),
            (
                "It slept {n} ms and hoped; on a busy runner the {part} needs {slow} ms.",
                "{n} of {m} tests changed their mind in 50 runs; all share the same database fixture.",
            ),
            (
                "It waits for the signal now: {slow} runs without a failure, and it is faster by {n} ms.",
                "Gave each its own schema: 0 of {m} flaked in {slow} further runs.",
            ),
        ),
        Trade(
            "coverage",
            (
                "Raise branch coverage of {file} in {service}; the error paths of the {part} matter most.",
                "Which lines changed by pull request #{pr} in {service} does no test reach?",
            ),
            (
                "{n} branches were never taken, all of them on the way out after an error in the {part}.",
                "{m} changed lines, {n} unreached: the fallback of the {part} and its log line.",
            ),
            (
                "Added {n} tests with injected faults: {pct} percent of branches, and one real bug in the {part}.",
                "Proposed {n} tests in a comment on #{pr}; with them every changed line is reached.",
            ),
        ),
    ),
    "coordinator-master": (
        Trade(
            "routing",
            (
                "Who should take: “the {part} of {service} misbehaves after {new}”? Name one master and say why.",
                "Split the request “make {service} ready for {cluster}” into tasks and assign each.",
            ),
            (
                (
                    "development-master: a defect after a release of {service}, no sign of an attack, and the pipeline "
                    "is green."
                ),
                "{n} tasks: size it, move its secrets, build for {cluster}, test the {part}, switch the traffic.",
            ),
            (
                "Second choice is testing-master, should the fault not show again within {n} minutes.",
                "infrastructure-master takes the first and the last, security-master the secrets; {n} can run at once.",
            ),
        ),
        Trade(
            "status-digest",
            (
                "Sum up the last {n} hours of work on {service} for {team}, in a few sentences.",
                "Which of the {m} open tasks on {service} are stuck, and on whom?",
            ),
            (
                "{m} tasks done, {n} failed; the {part} is repaired, and {new} is out in {environment}.",
                "{n} are stuck: all wait for {team} to approve pull request #{pr}.",
            ),
            (
                "Next comes the move to {cluster}; nothing is needed from {team} before then.",
                "Reminded {team} with a link, and moved {n} others ahead that do not depend on it.",
            ),
        ),
        Trade(
            "triage",
            (
                "Rank these by urgency: the {part} of {service}, {package} {old} on {cluster}, pull request #{pr}.",
                "Is “{service}: {part} slow for {team}” a duplicate? Triage it.",
            ),
            (
                "First {package} {old} ({level}), then the {part}, as {team} has a way round it; #{pr} can wait.",
                "The same cause as ticket {serial}, opened {n} days ago, with better evidence here.",
            ),
            (
                "Gave the first two an owner and a date; asked once more on #{pr}.",
                "Merged the two, kept the {n} traces, and told {team} where to follow.",
            ),
        ),
    ),
}
