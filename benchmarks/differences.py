"""Statistics of paired differences between two contenders."""

from scipy import stats


def half_interval(differences):
    """Half the 95 % interval of their mean, by Student's t distribution."""
    return stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)


def wilcoxon_p(differences):
    """The p value of Wilcoxon's signed-rank test, 1 if there is no difference at all."""
    return stats.wilcoxon(differences).pvalue if differences.any() else 1.0
