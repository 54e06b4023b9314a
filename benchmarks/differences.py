"""Statistics of paired differences between two contenders, over data sets or their families."""

import re

from scipy import stats


def half_interval(differences):
    """Half the 95 % interval of their mean, by Student's t distribution."""
    return stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)


def family_means(differences):
    """Means over the data sets made from one source, which shares what their names begin with."""
    return differences.groupby(lambda name: re.split(r"[\d\-_]", name)[0]).mean()


def with_interval(differences):
    """Their mean and its 95 % interval, as text."""
    return f"{differences.mean():+.4f} +- {half_interval(differences):.4f}"


def wilcoxon_p(differences):
    """The p value of Wilcoxon's signed-rank test, 1 if there is no difference at all."""
    return stats.wilcoxon(differences).pvalue if differences.any() else 1.0
