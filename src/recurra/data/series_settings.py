"""The `data.*` settings of forecast, and what a run keeps of its training series."""

from datetime import date, datetime
from typing import Literal

from pydantic import Field, field_validator

from recurra.data.sequences import AnySchema
from recurra.data.series import Missing, Scaling, Transform
from recurra.data.series_grid import Axis
from recurra.data.series_table import Layout
from recurra.data.settings import DataSettings, PlaceSettings
from recurra.data.times import calendar_names, parsed_frequency


class SeriesSettings(PlaceSettings):
    """The `data.*` settings of forecast: where series are, what their columns are for, and how windows are cut."""

    file: str | None = Field(default=None, description="the file in a known set's folder, where it holds several")
    header: bool | None = Field(default=None, description="whether a table's first line names its columns")
    separator: str | None = Field(default=None, description="what stands between a table's columns")
    columns: list[str] | None = Field(default=None, description="names for the columns of a table without a header")
    layout: Layout | None = Field(
        default=None,
        description="long: an id column tells series apart; wide: each column is a series; variables: the columns are "
        "variables of one series; found when left out, and said",
    )
    time: str | None = Field(default=None, description="column of times; found from the content when left out")
    time_format: str | None = Field(default=None, description='how dates are written, such as "%d/%m/%Y"')
    frequency: str | None = Field(
        default=None,
        description='steps of time: "15min", "1h", "1d", "business", "1w", "1mo", "3mo", "1y"; "rows": every row is a '
        "step, whatever its time; found from the times when left out",
    )
    id: str | list[str] | None = Field(default=None, description="long: column, or columns, that name a series")
    target: str | list[str] | None = Field(default=None, description="column, or columns, to forecast")
    past: list[str] | None = Field(
        default=None, description="covariates known up to the present alone; when left out, all other numbers"
    )
    known: list[str] | None = Field(
        default=None, description="covariates known ahead; when left out, those that go on behind the last target"
    )
    static: list[str] = Field(default_factory=list, description="columns of what a series has throughout")
    ignore: list[str] = Field(default_factory=list, description="columns to leave out")
    calendar: list[Literal["minute", "hour", "weekday", "day", "yearday", "month", "quarter"]] | None = Field(
        default=None,
        description="features of the calendar, each as sine and cosine; when left out, those that differ from step to "
        "step and come round twice in the training part",
    )
    season: int | None = Field(
        default=None,
        ge=1,
        description="steps after which series repeat themselves, for the seasonal baseline and MASE; by the steps of "
        "time, else found from autocorrelation",
    )
    context: int | None = Field(
        default=None, ge=1, description="rows read before a forecast; when left out, two seasons or horizons"
    )
    horizon: int | None = Field(default=None, ge=1, description="rows forecast; when left out, a season")
    stride: int = Field(default=1, ge=1, description="rows between the origins of training windows")
    test_stride: int = Field(
        default=1, ge=1, description="rows between the origins that are validated and tested on (rolling origin)"
    )
    train_end: str | int | None = Field(
        default=None, description="last time of the training part, or the number of its rows"
    )
    validation_end: str | int | None = Field(
        default=None, description="last time of the validation part, or the number of rows up to there"
    )
    test_end: str | int | None = Field(default=None, description="likewise of the test part; rows behind it are unused")
    missing: Missing = Field(
        default="mask",
        description="missing numbers: mask: 0, and told apart; interpolate: between the known ones of the window's "
        "past; forward: the last one before; error",
    )
    transform: Transform = Field(default="none", description="of the targets, undone in forecasts")
    difference: int | list[int] = Field(
        default_factory=list,
        description="lags at which targets are differenced in turn; undone in forecasts",
    )
    scaling: Scaling = Field(
        default="last",
        description="of the targets: series: by the training rows of each; window: by the window's own past; last: "
        "less the window's last value, by the series' deviation; none",
    )

    @field_validator("difference")
    @classmethod
    def _lags_are_positive(cls, value: int | list[int]) -> int | list[int]:
        lags = [value] if isinstance(value, int) else value
        if any(lag < 1 for lag in lags):
            raise ValueError("a lag is a number of rows from 1")
        return value

    @field_validator("train_end", "validation_end", "test_end", mode="before")
    @classmethod
    def _dates_as_written(cls, value: object) -> object:
        """TOML has dates of its own, which a recipe keeps as text."""
        return value.isoformat(*[" "] * isinstance(value, datetime)) if isinstance(value, date) else value

    @property
    def lags(self) -> tuple[int, ...]:
        """The lags of the differences."""
        return (self.difference,) if isinstance(self.difference, int) else tuple(self.difference)

    @property
    def table(self) -> DataSettings:
        """How a delimited file is read."""
        return DataSettings(
            header=self.header, separator=self.separator, columns=self.columns, encoding=self.encoding, format=None
        )


class SeriesSchema(AnySchema):
    """What the training series settled."""

    task: Literal["forecast"]
    layout: Layout
    time: str | None = None
    time_format: str | None = None
    dated: bool = False
    frequency: str = "step"
    first: float = 0.0  # of times that are numbers: step 0
    step: float = 1.0
    ids: list[str] = Field(default_factory=list)
    id_columns: list[str] = Field(default_factory=list)
    targets: list[str]
    columns: list[str] = Field(default_factory=list)  # wide: the columns that are series
    past: list[str] = Field(default_factory=list)
    known: list[str] = Field(default_factory=list)  # those of the table; the calendar's come behind
    calendar: list[str] = Field(default_factory=list)
    static: list[str] = Field(default_factory=list)  # a column, or "column=word" for each word of one
    static_columns: list[str] = Field(default_factory=list)
    season: int = 1
    context: int
    horizon: int
    masked: bool = False  # whether training rows miss numbers, and the network is told which
    mean: list[list[float]] = Field(default_factory=list)
    deviation: list[list[float]] = Field(default_factory=list)
    naive: list[list[float | None]] = Field(default_factory=list)
    """MASE's scale of each series and target: the mean error of the seasonal naive forecast on the training rows, in
    their own units; None where it is 0 or unknown."""
    past_scale: list[list[float]] = Field(default_factory=list)
    known_scale: list[list[float]] = Field(default_factory=list)
    static_scale: list[list[float]] = Field(default_factory=list)

    @property
    def known_names(self) -> list[str]:
        """All that is known ahead, those of the calendar last."""
        return [*self.known, *calendar_names(self.calendar)]

    @property
    def axis(self) -> Axis:
        """The steps of time."""
        return Axis(parsed_frequency(self.frequency), self.dated, self.first, self.step)
