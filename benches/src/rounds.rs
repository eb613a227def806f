//! Alternating rounds, and their statistics.

/// A median, with the minimum and maximum of the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MedianRange {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl MedianRange {
    /// The median and range of single values.
    pub(crate) fn of(values: &[f64]) -> Self {
        Self {
            median: median(values),
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// The ratio of the medians, with the minimum and maximum of the ratios of single rounds.
    pub(crate) fn ratio(ours: &[f64], theirs: &[f64]) -> Self {
        let ratios: Vec<_> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
        Self {
            median: median(ours) / median(theirs),
            ..Self::of(&ratios)
        }
    }
}

/// The median (the upper one for an even number of values).
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs both alternately, each of them first in every other round, so that changes on the machine affect both equally.
pub(crate) async fn alternate<T, U>(
    rounds: usize,
    mut ours: impl AsyncFnMut() -> T,
    mut theirs: impl AsyncFnMut() -> U,
) -> (Vec<T>, Vec<U>) {
    let (mut of_ours, mut of_theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        if round % 2 == 0 {
            of_ours.push(ours().await);
            of_theirs.push(theirs().await);
        } else {
            of_theirs.push(theirs().await);
            of_ours.push(ours().await);
        }
    }
    (of_ours, of_theirs)
}
