"""The Flower ClientApp of every method: messages in, the client program's work, messages out.

The program sees plain tensors; this file alone knows Flower's records.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients.arrays import record_from_tensors, tensors_from_record
from clients.runtime import Runtime, runtime
from fedkd.data.samples import Samples
from fedkd.protocol import (
    ARRAYS,
    CLASS_CORRECT,
    CLASS_COUNTS,
    CLASS_SHIFT,
    CLASS_TOTAL,
    CONFIG,
    EVALUATE_AFTER,
    METRICS,
    NUM_EXAMPLES,
    PARTITION_ID,
    POOL,
    REPORT_CLASSES,
    REPORT_RISK,
    RISK,
    ROWS,
    SAMPLES_TRAINED,
    SERVER_ROUND,
    SNAPSHOT,
    STAGE,
    TRAIN_LOSS,
)
from fedkd.training.cohort import Seat, drive_together
from fedkd.training.evaluate import Row, evaluate
from fedkd.training.loop import Trainer
from fedkd.training.program import Params, Reply, State, Task, parameter_names
from fedkd.training.progress import Progress

STATE = "fedkd.state"

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """One round of the client program; the reply holds its uploads, metrics and evaluation rows."""
    run, trainer, task, state = opened(message, context)
    before = _before(run, task, state)
    reply = trainer.drive(run.program.work(task, state), task)
    return _answered(message, context, task, reply, trainer.progress, before)


def train_together(asked: Sequence[tuple[Message, Context]]) -> list[Message | Exception]:
    """`train` for a cohort: a reply for each client, or what it raised; see `fedkd.training.cohort`."""
    seats: dict[int, tuple[Trainer, Seat, dict[str, Any]]] = {}
    answers: dict[int, Message | Exception] = {}
    for k, (message, context) in enumerate(asked):
        try:
            run, trainer, task, state = opened(message, context)
            before = _before(run, task, state)
            seats[k] = trainer, Seat(run.program.work(task, state), task), before
        except Exception as error:
            answers[k] = error
    for trainer in {id(trainer): trainer for trainer, _, _ in seats.values()}.values():
        drive_together(trainer, [seat for own, seat, _ in seats.values() if own is trainer])
    for k, (_, seat, before) in seats.items():
        try:
            if seat.error is not None:
                raise seat.error
            answers[k] = _answered(*asked[k], seat.task, seat.result, seat.progress, before)
        except Exception as error:
            answers[k] = error
    return [answers[k] for k in range(len(asked))]


def _answered(
    message: Message, context: Context, task: Task, reply: Reply, progress: Progress, before: dict[str, Any]
) -> Message:
    """What the program returned, as Flower's records; its state goes into the context."""
    metrics: dict[str, Any] = {
        NUM_EXAMPLES: len(task.data.train),
        TRAIN_LOSS: progress.first_loss or 0.0,
        SAMPLES_TRAINED: progress.samples,
    }
    if reply.state:
        context.state[STATE] = record_from_tensors(reply.state)
    content = RecordDict({METRICS: MetricRecord(metrics | before | reply.metrics)})
    run, sent = runtime(message.content), dict(reply.upload)
    if progress.snapshots:
        sent[SNAPSHOT] = progress.snapshot_of(reply.upload.get(ARRAYS, {}))
    if run.attack and task.data.client in run.attackers:
        moving = parameter_names(task.network)
        for name in sent.keys() & {ARRAYS, SNAPSHOT}:
            sent[name] = run.attack.sent(task.received, sent[name], moving)
    for name, params in sent.items():
        content[name] = record_from_tensors(params)
    if task.config.get(EVALUATE_AFTER) and reply.trained is not None:
        content[ROWS] = _rows_record(_rows(run, task, reply.trained, _label(run), "after"))
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate_client(message: Message, context: Context) -> Message:
    """Evaluate the models this client would use now; changes nothing at the client.

    With stage "after" the client first does the round's work on a copy of its state.
    """
    run, trainer, task, state = opened(message, context)
    if task.config.get(STAGE) == "after":
        reply = trainer.drive(run.program.work(task, state), task)
        rows = _rows(run, task, reply.trained, _label(run), "after") if reply.trained else []
    else:
        rows = []
        if run.program.global_model and task.received:
            rows += _rows(run, task, task.received, "global", "before")
        personal = trainer.drive(run.program.personalize(task, state), task)
        if personal is not None:
            rows += _rows(run, task, personal, "personal", "before")
    content = RecordDict({METRICS: MetricRecord(_headline(rows)), ROWS: _rows_record(rows)})
    return Message(content, reply_to=message)


@app.evaluate("risk")
def report_risk(message: Message, context: Context) -> Message:
    """Tell the risk of the model this client would start training from, and nothing else."""
    run, _, task, state = opened(message, context)
    return Message(RecordDict({METRICS: MetricRecord(_before(run, task, state))}), reply_to=message)


def opened(message: Message, context: Context) -> tuple[Runtime, Trainer, Task, State]:
    """The process's runtime, and the client's trainer, task and state as this message finds them."""
    content = message.content
    run = runtime(content)
    client = int(context.node_config[PARTITION_ID])
    trainer, initial = run.trainer(client)
    config = dict(content.config_records.get(CONFIG, ConfigRecord()))
    data = run.pooled if config.get(POOL) else run.client(client)
    records = {name: run.here(tensors_from_record(r)) for name, r in content.array_records.items()}
    received = records.pop(ARRAYS, {})
    task = trainer.task(
        data,
        initial,
        received,
        seed=run.seed,
        server_round=int(config.get(SERVER_ROUND, 0)),  # type: ignore[arg-type]
        config=config,
        knowledge=records,
        public=run.public,
    )
    state = run.here(tensors_from_record(context.state.array_records.get(STATE, ArrayRecord())))
    if (shift := config.get(CLASS_SHIFT)) is not None:  # in its work alone: `task.predict` stays as it is
        trainer = run.worker(client, shift)  # type: ignore[arg-type]
        task = replace(task, network=trainer.network)
    return run, trainer, task, state or run.program.init(task)


def _before(run: Runtime, task: Task, state: State) -> dict[str, Any]:
    """What was asked about the model that training starts from: its exact training loss, its risk."""
    figures: dict[str, Any] = {}
    if run.program.exact_train_loss:
        row = _row_before(run, task, state, task.data.train)
        figures[TRAIN_LOSS] = row.loss if row else 0.0
    if (kind := task.config.get(REPORT_RISK)) is not None:
        row = _row_before(run, task, state, task.data.train if kind == "train_loss" else task.data.val)
        if row:  # without samples the risk is unknown, which the server can tell from its absence
            figures[RISK] = 1.0 - row.accuracy if kind == "error" else row.loss
    if task.config.get(REPORT_CLASSES):
        row, none = _row_before(run, task, state, task.data.val), [0] * task.data.num_classes
        figures[CLASS_COUNTS] = task.data.class_counts("train").tolist()
        figures[CLASS_CORRECT], figures[CLASS_TOTAL] = (
            (row.class_correct, row.class_total) if row else (none, none)
        )
    return figures


def _row_before(run: Runtime, task: Task, state: State, samples: Samples) -> Row | None:
    start = run.program.start(task, state)
    which = {"split": "", "model": "", "stage": "before"}
    return evaluate(lambda x: task.predict(start, x), samples, task.data.num_classes, **which)


def _label(run: Runtime) -> str:
    return "personal" if run.program.personal_model else "global"


def _rows(run: Runtime, task: Task, params: Params, model: str, stage: str) -> list[Row]:
    """Rows of one model on the client's splits, and on the global test sample where a label mix is judged."""
    data = task.data
    splits = {name: getattr(data, name) for name in run.config["evaluation"]["splits"]}
    if model == "personal" and stage == "before" and run.mix_samples is not None:
        splits["global_test"] = run.mix_samples

    # The global model has the first client's architecture, where these differ.
    ask = run.trainer(0)[0].predict if model == "global" else task.predict

    def predict(x: Any) -> Any:
        return ask(params, x)

    rows = [
        evaluate(predict, samples, data.num_classes, split=name, model=model, stage=stage)
        for name, samples in splits.items()
    ]
    return [row for row in rows if row is not None]


def _rows_record(rows: list[Row]) -> ConfigRecord:
    return ConfigRecord({"json": json.dumps([asdict(row) for row in rows])})


def _headline(rows: list[Row]) -> dict[str, Any]:
    """What Flower's strategies average: the test figures (else others) of the model the client would use."""
    tests = [row for row in rows if row.split == "test"] or rows
    last = tests[-1] if tests else None
    return {
        NUM_EXAMPLES: last.num_examples if last else 0,
        "loss": last.loss if last else 0.0,
        "accuracy": last.accuracy if last else 0.0,
    }


@app.query()
def identify(message: Message, context: Context) -> Message:
    """Tell which partition this node holds, so that a server can put nodes in a fixed order."""
    metrics = MetricRecord({PARTITION_ID: int(context.node_config[PARTITION_ID])})
    return Message(RecordDict({METRICS: metrics}), reply_to=message)
