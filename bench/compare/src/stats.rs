//! Medians, quartiles and ratios of what rounds measured. A ratio is formed inside a round, of two figures taken within
//! seconds of one another, and only then put in order: the machine drifts, and what drifts with it cancels out.

/// The middle of some figures, and the half of them around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    /// A quarter of the figures is below.
    pub(crate) low: f64,
    pub(crate) median: f64,
    /// A quarter of the figures is above.
    pub(crate) high: f64,
    pub(crate) count: usize,
}

impl Spread {
    /// Of these figures; nothing where there are none.
    pub(crate) fn of(figures: &[f64]) -> Option<Spread> {
        let mut sorted: Vec<f64> = figures.iter().copied().filter(|figure| figure.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let part = |share| quantile(&sorted, share);
        Some(Spread { low: part(0.25)?, median: part(0.5)?, high: part(0.75)?, count: sorted.len() })
    }
}

/// The figure that so large a share of sorted figures is below; between two of them, on the line that joins them.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share * last as f64;
    let below = place.floor();
    let (lower, upper) = (sorted[below as usize], sorted[(below as usize + 1).min(last)]);
    Some(lower + (upper - lower) * (place - below))
}

/// `over / under` of each round that has both.
pub(crate) fn ratios(over: &[(u32, f64)], under: &[(u32, f64)]) -> Vec<f64> {
    let same_round = |round: u32| under.iter().find(|(other, figure)| *other == round && *figure > 0.0);
    over.iter().filter_map(|(round, figure)| Some(figure / same_round(*round)?.1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_median_and_quartiles() {
        let spread = |figures: &[f64]| Spread::of(figures).map(|s| (s.low, s.median, s.high, s.count));
        assert_eq!(spread(&[5.0, 1.0, 4.0, 2.0, 3.0]), Some((2.0, 3.0, 4.0, 5)));
        assert_eq!(spread(&[4.0, 1.0, 3.0, 2.0]), Some((1.75, 2.5, 3.25, 4)));
        assert_eq!(spread(&[7.0]), Some((7.0, 7.0, 7.0, 1)));
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[f64::NAN, f64::INFINITY, 7.0]), Some((7.0, 7.0, 7.0, 1)));
    }

    #[test]
    fn ratios_stay_inside_a_round() {
        let lunette = [(0, 90.0), (1, 60.0), (2, 10.0), (4, 8.0)];
        let echo = [(1, 80.0), (0, 100.0), (3, 1.0), (4, 0.0)];
        assert_eq!(ratios(&lunette, &echo), [0.9, 0.75]);
    }
}
