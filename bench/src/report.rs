//! From samples to the table, or to lines of JSON.

use std::fmt::Write;

/// Samples of one measurement.
#[derive(Clone, Default, Debug)]
pub struct Samples(pub Vec<f64>);

impl Samples {
    /// The one in the middle.
    pub fn median(&self) -> Option<f64> {
        let mut v = self.0.clone();
        v.sort_by(f64::total_cmp);
        v.get(v.len() / 2).copied()
    }
    /// The least.
    pub fn min(&self) -> Option<f64> {
        self.0.iter().copied().min_by(f64::total_cmp)
    }
}

/// A number with what it may be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Limit {
    /// At most.
    Max(f64),
    /// At least.
    Min(f64),
}

impl Limit {
    fn holds(self, v: f64) -> bool {
        match self {
            Limit::Max(l) => v <= l,
            Limit::Min(l) => v >= l,
        }
    }
    fn text(self, unit: &str) -> String {
        match self {
            Limit::Max(l) => format!("≤ {l}{unit}"),
            Limit::Min(l) => format!("≥ {l}{unit}"),
        }
    }
    fn value(self) -> f64 {
        let (Limit::Max(l) | Limit::Min(l)) = self;
        l
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Name of the figure, perhaps with a part.
    pub name: String,
    /// What is measured.
    pub what: String,
    /// The reference: the host, or the pinned machine.
    pub base: Option<String>,
    /// The machine.
    pub ours: Option<String>,
    /// What the limit is about, from medians.
    pub value: Option<f64>,
    /// The same from minima.
    pub of_min: Option<f64>,
    /// Unit of `value`: empty for ratios.
    pub unit: &'static str,
    /// What is asked, if anything is.
    pub limit: Option<Limit>,
}

impl Row {
    /// `ours` to `base`, both in nanoseconds.
    pub fn ratio(
        name: String,
        what: &str,
        base: &Samples,
        ours: &Samples,
        limit: Option<f64>,
    ) -> Row {
        let of = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
        Row {
            name,
            what: what.into(),
            base: base.median().map(time),
            ours: ours.median().map(time),
            value: of(ours.median(), base.median()),
            of_min: of(ours.min(), base.min()),
            unit: "",
            limit: limit.map(Limit::Max),
        }
    }
    fn number(&self, v: Option<f64>) -> String {
        v.map_or("-".into(), |v| format!("{v:.2}{}", self.unit))
    }
    fn verdict(&self) -> &'static str {
        match (self.value, self.limit) {
            (None, _) => "not measured",
            (Some(v), Some(l)) if !l.holds(v) => "over",
            (Some(_), Some(_)) => "ok",
            (Some(_), None) => "",
        }
    }
    fn json(&self) -> String {
        let number = |v: Option<f64>| v.map_or("null".into(), |v| format!("{v:.4}"));
        let string = |v: &str| format!("\"{}\"", v.replace('\\', "\\\\").replace('"', "\\\""));
        let optional = |v: &Option<String>| v.as_deref().map_or("null".into(), string);
        format!(
            "{{\"name\":{},\"what\":{},\"base\":{},\"machine\":{},\"value\":{},\"of_minima\":{},\"unit\":{},\"limit\":{},\"verdict\":{}}}",
            string(&self.name),
            string(&self.what),
            optional(&self.base),
            optional(&self.ours),
            number(self.value),
            number(self.of_min),
            string(self.unit.trim()),
            number(self.limit.map(Limit::value)),
            string(self.verdict()),
        )
    }
}

/// Nanoseconds for people.
pub fn time(ns: f64) -> String {
    match ns {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.2} µs", n / 1e3),
        n => format!("{:.2} ms", n / 1e6),
    }
}

/// One JSON object a line.
pub fn json(rows: &[Row]) -> String {
    rows.iter().fold(String::new(), |mut s, r| {
        let _ = writeln!(s, "{}", r.json());
        s
    })
}

/// A Markdown table whose columns line up.
pub fn table(rows: &[Row]) -> String {
    const HEAD: [&str; 7] = [
        "figure",
        "against",
        "machine",
        "value",
        "of minima",
        "asked",
        "",
    ];
    let mut cells: Vec<[String; 7]> = vec![HEAD.map(String::from)];
    for r in rows {
        cells.push([
            r.what.clone(),
            r.base.clone().unwrap_or("-".into()),
            r.ours.clone().unwrap_or("-".into()),
            r.number(r.value),
            r.number(r.of_min),
            r.limit.map_or(String::new(), |l| l.text(r.unit)),
            r.verdict().into(),
        ]);
    }
    let width = |i: usize| {
        cells
            .iter()
            .map(|c| c[i].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut s = String::new();
    for (n, line) in cells.iter().enumerate() {
        for (i, (cell, w)) in line.iter().zip(widths).enumerate() {
            let _ = match i {
                0 | 6 => write!(s, "| {cell:<w$} "),
                _ => write!(s, "| {cell:>w$} "),
            };
        }
        s.push_str("|\n");
        if n == 0 {
            for (i, w) in widths.into_iter().enumerate() {
                let right = if matches!(i, 0 | 6) { "-" } else { ":" };
                let _ = write!(s, "|{}{right}", "-".repeat(w + 1));
            }
            s.push_str("|\n");
        }
    }
    s
}
