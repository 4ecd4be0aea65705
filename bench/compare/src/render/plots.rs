//! The plots: every one has places on its x axis, a line for each peer and the quartiles as a bar at each point. Text and axes
//! have the colour of the reader's page, light or dark; the lines are readable on both.

use std::fs;
use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::cases::{CONNECTION_DEPTH, CONNECTIONS, DEPTHS, MANY, RATES, rate_name, sweep_name};
use crate::fault::Fault;
use crate::peers::Kind;
use crate::results::{Point, Results};
use crate::stats::Spread;

const SIZE: (u32, u32) = (720, 400);
/// Width of the peers' names, right of the plot.
const LEGEND: u32 = 96;
/// Stands for the colour of the page's text until the file is written.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_TEXT: &str = "#010203";
const STYLE: &str = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#d1d7e0}}</style>";

/// What of a point is drawn.
type Figure = fn(&Point) -> Option<f64>;

/// One plot.
struct Plot {
    name: &'static str,
    /// The part of the page that shows it.
    region: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    /// The y axis is logarithmic.
    is_log: bool,
    places: Vec<String>,
    lines: Vec<(Kind, Vec<(usize, Spread)>)>,
}

/// Draws what there are figures for; the files.
pub(crate) fn plots(results: &Results, folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    fs::create_dir_all(folder).map_err(Fault::file(folder))?;
    let mut files = Vec::new();
    for plot in all(results) {
        let path = folder.join(format!("{}.svg", plot.name));
        if plot.lines.is_empty() {
            continue; // what was drawn of earlier results stays
        }
        let text = plot.svg().map_err(|said| Fault::Plot { path: path.clone(), said })?;
        fs::write(&path, text).map_err(Fault::file(&path))?;
        files.push(path);
    }
    Ok(files)
}

/// The plots of a part of the page, as Markdown.
pub(super) fn images(results: &Results, region: &str, folder: &str) -> String {
    let shown = all(results).into_iter().filter(|plot| plot.region == region && !plot.lines.is_empty());
    shown.map(|plot| format!("![{}]({folder}/{}.svg)\n", plot.title, plot.name)).collect()
}

fn all(results: &Results) -> Vec<Plot> {
    let iops = |point: &Point| Some(point.load.iops / 1e3);
    let cost = |point: &Point| Some(point.core_ns_per_io()? / 1e3);
    let depths = |rw: &str| DEPTHS.map(|depth| (depth.to_string(), sweep_name(rw, 1, depth)));
    let over =
        |name, title, x, y, is_log, cases: &[(String, String)], figure: &dyn Fn(&Point) -> Option<f64>| {
            Plot {
                name,
                region: if matches!(name, "cost" | "rate") { "cost" } else { "sweep" },
                title,
                x,
                y,
                is_log,
                places: cases.iter().map(|(place, _)| place.clone()).collect(),
                lines: lines(|kind, at| spread(results, &cases.get(at)?.1, kind, figure), cases.len()),
            }
        };
    let connections =
        CONNECTIONS.map(|count| (count.to_string(), sweep_name("randread", count, CONNECTION_DEPTH)));
    let many = MANY.map(|count| (count.to_string(), format!("connections-{count}")));
    let rates = RATES.map(|rate| (rate.to_string(), rate_name(rate)));
    let cores = |point: &Point| Some(point.server.cores * point.server.busy_share.unwrap_or(1.0));
    let (qd, kilo, time) = ("queue depth", "thousand IO/s", "µs of a core per IO");
    vec![
        over("depth-read", "4 KiB random read, one connection", qd, kilo, false, &depths("randread"), &iops),
        over(
            "depth-write",
            "4 KiB random write, one connection",
            qd,
            kilo,
            false,
            &depths("randwrite"),
            &iops,
        ),
        over("cost", "CPU per 4 KiB random read, one connection", qd, time, true, &depths("randread"), &cost),
        over("connections", "4 KiB random read, QD 8 each", "connections", kilo, false, &connections, &iops),
        over("many", "4 KiB random read, QD 1 each", "connections", kilo, false, &many, &iops),
        over("rate", "CPU at a fixed rate, 4 KiB random read", "IO/s", "cores", false, &rates, &cores),
        percentiles(results, "latency-qd1", "Latency, 4 KiB random read, QD 1", "randread-4k-qd1"),
        percentiles(results, "latency-qd32", "Latency, 4 KiB random read, QD 32", "randread-4k"),
    ]
}

fn percentiles(results: &Results, name: &'static str, title: &'static str, case: &str) -> Plot {
    let of: [(&str, Figure); 4] = [
        ("p50", |point| Some(point.load.latency_us.p50)),
        ("p90", |point| Some(point.load.latency_us.p90)),
        ("p99", |point| Some(point.load.latency_us.p99)),
        ("p99.9", |point| Some(point.load.latency_us.p999)),
    ];
    Plot {
        name,
        region: "latency",
        title,
        x: "percentile",
        y: "µs",
        is_log: true,
        places: of.map(|(place, _)| place.to_owned()).into(),
        lines: lines(|kind, at| spread(results, case, kind, &of[at].1), of.len()),
    }
}

fn spread(
    results: &Results,
    case: &str,
    kind: Kind,
    figure: &dyn Fn(&Point) -> Option<f64>,
) -> Option<Spread> {
    Spread::of(&results.of(case, kind.name()).filter_map(figure).collect::<Vec<_>>())
}

/// A line for each peer that has a figure anywhere.
fn lines(of: impl Fn(Kind, usize) -> Option<Spread>, places: usize) -> Vec<(Kind, Vec<(usize, Spread)>)> {
    let line = |kind| (0..places).filter_map(|at| Some((at, of(kind, at)?))).collect::<Vec<_>>();
    Kind::ALL.map(|kind| (kind, line(kind))).into_iter().filter(|(_, points)| !points.is_empty()).collect()
}

fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Lunette => RGBColor(0x2f, 0x81, 0xf7),
        Kind::Echo => RGBColor(0x8b, 0x94, 0x9e),
        Kind::Spdk => RGBColor(0xd2, 0x8a, 0x1a),
        Kind::Tgt => RGBColor(0x2d, 0xa4, 0x4e),
        Kind::Istgt => RGBColor(0xb0, 0x6a, 0xe8),
        Kind::Fio => RGBColor(0xe5, 0x53, 0x4b),
    }
}

fn width(kind: Kind) -> u32 {
    if kind == Kind::Lunette { 3 } else { 2 }
}

fn small() -> TextStyle<'static> {
    ("sans-serif", 13).into_font().color(&INK)
}

impl Plot {
    /// The picture as text.
    fn svg(&self) -> Result<String, String> {
        let mut text = String::new();
        {
            let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
            self.draw(&area).map_err(|error| error.to_string())?;
            area.present().map_err(|error| error.to_string())?;
        }
        let head_end =
            text.find("<svg").and_then(|at| Some(at + text[at..].find('>')? + 1)).ok_or("no picture")?;
        let (head, body) = text.split_at(head_end);
        Ok(format!("{head}\n{STYLE}{}", body.replace(INK_TEXT, "currentColor")))
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Box<dyn std::error::Error>> {
        let spreads = || self.lines.iter().flat_map(|(_, points)| points.iter().map(|(_, spread)| spread));
        let most = spreads().map(|spread| spread.high).fold(0.0, f64::max);
        let least = spreads().map(|spread| spread.low).filter(|low| *low > 0.0).fold(most, f64::min);
        let places = -0.3..self.places.len() as f64 - 0.7;
        let mut builder = ChartBuilder::on(area);
        builder
            .margin(12)
            .margin_right(LEGEND)
            .caption(self.title, ("sans-serif", 17).into_font().color(&INK));
        builder.x_label_area_size(42).y_label_area_size(64);
        if self.is_log {
            let chart =
                builder.build_cartesian_2d(places, (least / 1.5..(most * 1.5).max(least)).log_scale())?;
            self.fill(chart)?;
        } else {
            let chart = builder.build_cartesian_2d(places, 0.0..(most * 1.1).max(f64::MIN_POSITIVE))?;
            self.fill(chart)?;
        }
        self.names(area)
    }

    /// Which line is whose, right of the plot.
    fn names(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Box<dyn std::error::Error>> {
        let left = i32::try_from(SIZE.0 - LEGEND)? + 10;
        for (row, (kind, _)) in (0..).zip(&self.lines) {
            let y = 46 + 18 * row;
            let style = colour(*kind).stroke_width(width(*kind));
            area.draw(&PathElement::new([(left, y), (left + 20, y)], style))?;
            area.draw(&Text::new(kind.name(), (left + 27, y - 6), small()))?;
        }
        Ok(())
    }

    fn fill<'a, Y>(
        &self,
        mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>,
    ) -> Result<(), Box<dyn std::error::Error>>
    where
        Y: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        let place = |x: &f64| {
            let whole = (x - x.round()).abs() < 1e-6 && *x > -0.5;
            let name = if whole { self.places.get(x.round() as usize) } else { None };
            name.cloned().unwrap_or_default()
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(INK.mix(0.18))
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(small())
            .x_labels(self.places.len() + 1)
            .x_label_formatter(&place)
            .y_label_formatter(&|y| tick(*y, self.is_log))
            .x_desc(self.x)
            .y_desc(self.y)
            .draw()?;
        for (kind, points) in &self.lines {
            let colour = colour(*kind);
            let at = |(place, spread): &(usize, Spread)| (*place as f64, spread.median);
            let style = colour.stroke_width(width(*kind));
            chart.draw_series(LineSeries::new(points.iter().map(at), style))?;
            chart.draw_series(points.iter().map(|point| Circle::new(at(point), 3, colour.filled())))?;
            let bar = |(place, spread): &(usize, Spread)| {
                let x = *place as f64;
                PathElement::new([(x, spread.low), (x, spread.high)], colour.stroke_width(1))
            };
            chart.draw_series(points.iter().map(bar))?;
        }
        Ok(())
    }
}

/// What a tick of the y axis says. Ticks of a logarithmic one stand closer the further up they are in a decade: 1, 2 and 5
/// have room.
pub(super) fn tick(value: f64, is_log: bool) -> String {
    let first = value / 10_f64.powf((value.log10() + 1e-9).floor());
    match value {
        _ if is_log && [1.0, 2.0, 5.0].iter().all(|round: &f64| (first - round).abs() > 1e-6) => {
            String::new()
        }
        0.0 => "0".to_owned(),
        10.0.. => format!("{value:.0}"),
        1.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
