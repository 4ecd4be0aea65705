//! Prometheus's text format 0.0.4, of all metrics.

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::{FAMILIES, Family, Kind, Value};
use crate::meter::{Spread, TIMES_BOUNDS_NS};
use crate::metrics::sample::Sample;

/// What Prometheus reads.
///
/// # Errors
/// The encoder refuses, which it has no reason to.
pub fn text(sample: &Sample) -> prometheus::Result<String> {
    let families = FAMILIES.iter().map(|family| made(family, sample));
    // One without series says nothing, and the encoder minds.
    let families: Vec<MetricFamily> = families.filter(|family| !family.get_metric().is_empty()).collect();
    TextEncoder::new().encode_to_string(&families)
}

fn made(family: &Family, sample: &Sample) -> MetricFamily {
    let mut made = MetricFamily::default();
    made.set_name(family.name.to_owned());
    made.set_help(family.help.to_owned());
    made.set_field_type(match family.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    let series = (family.rows)(sample).into_iter().map(|(labels, value)| {
        debug_assert_eq!(labels.len(), family.labels.len(), "{}", family.name);
        let pairs = family.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value);
            pair
        });
        let mut metric = Metric::from_label(pairs.collect());
        match (value, family.kind) {
            (Value::Spread(spread), _) => metric.set_histogram(histogram(&spread, 1)),
            (Value::Coarse(spread), _) => metric.set_histogram(histogram(&spread, 2)),
            (value, Kind::Counter) => {
                let mut counter = Counter::default();
                counter.set_value(number(&value));
                metric.set_counter(counter);
            }
            (value, _) => {
                let mut gauge = Gauge::default();
                gauge.set_value(number(&value));
                metric.set_gauge(gauge);
            }
        }
        metric
    });
    made.set_metric(series.collect());
    made
}

/// Prometheus knows floating point only.
fn number(value: &Value) -> f64 {
    match value {
        Value::Number(number) => *number as f64,
        Value::Nanoseconds(ns) => seconds(*ns),
        Value::Spread(_) | Value::Coarse(_) => 0.0,
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Each so many buckets are one; the last bound is told in any case.
fn histogram(spread: &Spread, each: usize) -> Histogram {
    let mut count = 0;
    let buckets = TIMES_BOUNDS_NS.iter().zip(spread.counts).map(|(bound_ns, more)| {
        count += more;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(seconds(*bound_ns));
        bucket.set_cumulative_count(count);
        bucket
    });
    let buckets = buckets.skip((TIMES_BOUNDS_NS.len() - 1) % each).step_by(each);
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(spread.count());
    histogram.set_sample_sum(seconds(spread.total_ns));
    histogram
}
