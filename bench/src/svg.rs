//! The bar chart: ratios to the host on a logarithmic scale, one colour an engine.
//!
//! Bars start at the host's line: to the left is faster, to the right slower. Text
//! and lines take a grey that is legible on light and on dark ground.

use std::fmt::Write;

/// The bars of one figure.
pub struct Group {
    /// Its label.
    pub what: &'static str,
    /// Ratio to the host for each engine, if measured.
    pub ratios: [Option<f64>; 2],
}

const COLOURS: [&str; 2] = ["#d98324", "#2f8fd0"];
const LEFT: f64 = 300.0;
const WIDTH: f64 = 460.0;
const TOP: f64 = 56.0;
const BAR: f64 = 10.0;
const STEP: f64 = 30.0;

/// Powers of ten around all ratios and 1.
fn decades(groups: &[Group]) -> (i32, i32) {
    let all = groups.iter().flat_map(|g| g.ratios).flatten();
    all.fold((-1, 1), |(low, high), r| {
        let l = r.log10();
        (low.min(l.floor() as i32), high.max(l.ceil() as i32))
    })
}

/// Where a ratio lies, in pixels from the left.
fn x(ratio: f64, (low, high): (i32, i32)) -> f64 {
    LEFT + WIDTH * (ratio.log10() - f64::from(low)) / f64::from(high - low)
}

fn escape(s: &str) -> String {
    s.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The whole file.
pub fn chart(groups: &[Group], engines: [&str; 2], caption: &str) -> String {
    let range = decades(groups);
    let bottom = TOP + STEP * groups.len() as f64;
    let (w, h) = (LEFT + WIDTH + 60.0, bottom + 52.0);
    let mut s = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#808790\">\n\
         <text x=\"12\" y=\"22\" font-size=\"15\">Time of a machine to the host's (log scale; left is faster)</text>\n"
    );
    for (i, (name, colour)) in engines.into_iter().zip(COLOURS).enumerate() {
        let at = LEFT + 320.0 + 100.0 * i as f64;
        let name = escape(name);
        let _ = writeln!(
            s,
            "<rect x=\"{at}\" y=\"12\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"22\">{name}</text>",
            at + 18.0
        );
    }
    for d in range.0..=range.1 {
        let at = x(10f64.powi(d), range);
        let (label, width) = match d {
            0 => ("host = 1".to_string(), 2.0),
            _ => (format!("{}", 10f64.powi(d)), 0.4),
        };
        let _ = writeln!(
            s,
            "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#808790\" stroke-width=\"{width}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            TOP - 6.0
        );
    }
    for (i, g) in groups.iter().enumerate() {
        let y = TOP + STEP * i as f64 + 5.0;
        let _ = writeln!(
            s,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            y + BAR + 4.0,
            escape(g.what)
        );
        for (k, (ratio, colour)) in g.ratios.into_iter().zip(COLOURS).enumerate() {
            let y = y + BAR * k as f64;
            let Some(r) = ratio else { continue };
            let (one, at) = (x(1.0, range), x(r, range));
            let (from, len) = (one.min(at), (one - at).abs());
            let (side, anchor) = if r < 1.0 {
                (at - 4.0, "end")
            } else {
                (at + 4.0, "start")
            };
            let _ = writeln!(
                s,
                "<rect x=\"{from:.1}\" y=\"{y}\" width=\"{len:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\
                 <text x=\"{side:.1}\" y=\"{}\" font-size=\"10\" text-anchor=\"{anchor}\">{r:.2}</text>",
                y + BAR - 1.0
            );
        }
    }
    let _ = writeln!(
        s,
        "<text x=\"12\" y=\"{}\">{}</text>\n</svg>",
        bottom + 32.0,
        escape(caption)
    );
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_logarithmic() {
        let range = (-1, 2);
        assert_eq!(x(0.1, range), LEFT);
        assert!((x(100.0, range) - LEFT - WIDTH).abs() < 1e-9);
        let third = WIDTH / 3.0;
        assert!((x(10.0, range) - x(1.0, range) - third).abs() < 1e-9);
    }

    #[test]
    fn the_range_holds_all_bars_and_the_host() {
        let group = |a, b| Group {
            what: "",
            ratios: [a, b],
        };
        assert_eq!(decades(&[]), (-1, 1));
        assert_eq!(decades(&[group(Some(0.004), None)]), (-3, 1));
        assert_eq!(decades(&[group(None, Some(250.0))]), (-1, 3));
    }

    #[test]
    fn text_is_escaped_and_gaps_have_no_bar() {
        let g = Group {
            what: "a < b",
            ratios: [Some(2.0), None],
        };
        let s = chart(&[g], ["one", "two"], "A & B");
        assert!(s.contains("a &lt; b") && s.contains("A &amp; B"));
        assert_eq!(s.matches("<rect").count(), 3);
    }
}
