"""Loading results that come from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from pairsearch.search.results.foreign import Told
from pairsearch.search.setup.load import LoadedStudy
from pairsearch.search.setup.load import load as read_in
from pairsearch.search.setup.storage_url import environment_storage


def load(
    source: object,
    *,
    studies: Sequence[str] = (),
    storage: str | None = None,
    name: str | None = None,
    metric: str | None = None,
    minimise: bool = False,
    folds: str = "fold*",
) -> list[LoadedStudy]:
    """Load results into a database, each exactly once: all studies of the source, or none.

    A study that is there gets the results that it lacks; loading again changes nothing. Results of another program
    become a study that is judged like any other, and that cannot be trained here.

    Args:
        source: a folder that `pairsearch export` wrote, or `"paper"`, the results that are shipped; or, of another
            program, scikit-learn's `cv_results_`, any other columns by name, a `.csv` or `.parquet` file of such, or
            the URL of a database with a finished study of Optuna's whose trials reported one value per fold.
        studies: names of the studies to load, all if there are none; of Optuna's database one, which may be left out if
            it is the only one.
        storage: the database URL, as for `create`. The database is created if it does not exist.
        name: a name for the study of another program; None for that of the file without its ending, `cv_results`, or
            Optuna's.
        metric: the score of another program by which configurations are compared; None if there is only one.
        minimise: whether a lower score of a table is better; scikit-learn's are maximised.
        folds: how a plain table names its columns of folds, `*` for the number. A column `seconds` is the time of
            training; all others are parameters.

    Returns:
        What was loaded of each study.

    Raises:
        Error: the source is damaged, or the database has other results. Nothing was loaded.

    Example::

        search = GridSearchCV(pipeline, grid, cv=10).fit(X, y)
        pairsearch.load(search.cv_results_, name="cancer")
        pairsearch.open("cancer").report("cancer.html")
    """
    return read_in(storage or environment_storage(), source, studies, Told(name, metric, minimise, folds))
