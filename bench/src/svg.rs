//! Small bar charts as SVG: panels of horizontal bars, a value at the end of each.

use std::fmt::Write;

/// A picture of several panels.
pub(crate) struct Figure {
    pub(crate) title: String,
    /// The note on all panels.
    pub(crate) note: String,
    pub(crate) panels: Vec<Panel>,
}

/// Bars on one scale, from zero.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    /// The names of the bars of a group, if there is more than one.
    pub(crate) series: Vec<&'static str>,
    pub(crate) groups: Vec<Group>,
}

/// The bars of one name: one for each of the series.
pub(crate) struct Group {
    pub(crate) name: String,
    /// It is drawn to be found first.
    pub(crate) is_ours: bool,
    pub(crate) figures: Vec<Option<f64>>,
}

const COLUMNS: usize = 2;
const COLUMN: f64 = 424.0;
const MARGIN: f64 = 16.0;
/// Room for the names, left of the bars.
const NAMES: f64 = 160.0;
/// Room for the values, right of the longest bar.
const VALUES: f64 = 52.0;
const HEADING: f64 = 54.0;
const PANEL_HEADING: f64 = 26.0;
const BAR: f64 = 13.0;
const GAP: f64 = 6.0;

/// Readable on a light ground and on a dark one, and without colour: ours are bold.
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#24292f}\
.title{font-size:15px;font-weight:600}\
.panel{font-weight:600}\
.note{font-size:11px;fill:#57606a}\
.ours{font-weight:700}\
.axis{stroke:#8c959f}\
.other0{fill:#8c959f}.other1{fill:#c4cad1}\
.ours0{fill:#0b6bcb}.ours1{fill:#7db8f0}\
@media(prefers-color-scheme:dark){\
text{fill:#e6edf3}.note{fill:#9198a1}\
.other0{fill:#6e7681}.other1{fill:#444c56}\
.ours0{fill:#4c9aed}.ours1{fill:#22578f}}";

impl Figure {
    /// The file.
    pub(crate) fn svg(&self) -> String {
        let width = COLUMN * COLUMNS as f64 + MARGIN * 2.0;
        let mut body = String::new();
        let mut y = HEADING;
        for row in self.panels.chunks(COLUMNS) {
            for (column, panel) in row.iter().enumerate() {
                panel.draw(MARGIN + COLUMN * column as f64, y, &mut body);
            }
            y += row.iter().map(Panel::height).fold(0.0, f64::max) + MARGIN;
        }
        let title = escaped(&self.title);
        let note = escaped(&self.note);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {y}\" \
             width=\"{width}\" height=\"{y}\" role=\"img\" aria-label=\"{title}\">\n\
             <style>{STYLE}</style>\n\
             <text class=\"title\" x=\"{MARGIN}\" y=\"24\">{title}</text>\n\
             <text class=\"note\" x=\"{MARGIN}\" y=\"42\">{note}</text>\n{body}</svg>\n"
        )
    }
}

impl Panel {
    /// Of a group, without the gap below.
    fn group_height(&self) -> f64 {
        BAR * self.series.len().max(1) as f64
    }

    fn height(&self) -> f64 {
        PANEL_HEADING + (self.group_height() + GAP) * self.groups.len() as f64
    }

    fn draw(&self, x: f64, y: f64, out: &mut String) {
        let most = self
            .groups
            .iter()
            .flat_map(|group| group.figures.iter().flatten())
            .copied()
            .fold(0.0, f64::max);
        let longest = COLUMN - NAMES - VALUES - MARGIN;
        let zero = x + NAMES;
        let series = match self.series.len() {
            0 | 1 => String::new(),
            _ => format!(" ({})", self.series.join(", ")),
        };
        let heading = escaped(&format!("{}, {}{series}", self.title, self.unit));
        // Writing to a string cannot fail.
        let _ =
            writeln!(out, "<text class=\"panel\" x=\"{x}\" y=\"{}\">{heading}</text>", y + 14.0);
        let top = y + PANEL_HEADING;
        for (index, group) in self.groups.iter().enumerate() {
            let y = top + (self.group_height() + GAP) * index as f64;
            let (class, weight) =
                if group.is_ours { ("ours", " class=\"ours\"") } else { ("other", "") };
            let middle = y + self.group_height() / 2.0 + 4.0;
            let name = escaped(&group.name);
            let _ = writeln!(
                out,
                "<text{weight} x=\"{}\" y=\"{middle:.1}\" text-anchor=\"end\">{name}</text>",
                zero - 8.0
            );
            for (series, figure) in group.figures.iter().enumerate() {
                let y = y + BAR * series as f64;
                let length =
                    figure.map_or(0.0, |it| if most > 0.0 { it / most * longest } else { 0.0 });
                let shown = figure.map_or_else(|| "–".to_owned(), rounded);
                let _ = writeln!(
                    out,
                    "<rect class=\"{class}{series}\" x=\"{zero}\" y=\"{y:.1}\" width=\"{length:.1}\" \
                     height=\"{}\"/><text{weight} x=\"{:.1}\" y=\"{:.1}\">{shown}</text>",
                    BAR - 1.0,
                    zero + length + 5.0,
                    y + BAR - 3.0
                );
            }
        }
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{zero}\" x2=\"{zero}\" y1=\"{top}\" y2=\"{:.1}\"/>",
            y + self.height() - GAP
        );
    }
}

/// Three digits, with the prefixes of the SI.
fn rounded(figure: f64) -> String {
    let (scaled, prefix) = match figure {
        1e6.. => (figure / 1e6, "M"),
        1e3.. => (figure / 1e3, "k"),
        _ => (figure, ""),
    };
    let digits = match scaled {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{scaled:.digits$}{prefix}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_that_of_the_largest_figure() {
        let group = |name: &str, figure| Group {
            name: name.to_owned(),
            is_ours: name == "a",
            figures: vec![figure],
        };
        let panel = Panel {
            title: "case".to_owned(),
            unit: "per second",
            series: vec![],
            groups: vec![group("a", Some(2e6)), group("b<c", Some(1e6)), group("d", None)],
        };
        let figure = Figure { title: "t".to_owned(), note: "n".to_owned(), panels: vec![panel] };
        let svg = figure.svg();
        let longest = COLUMN - NAMES - VALUES - MARGIN;
        assert!(svg.contains(&format!("width=\"{longest:.1}\"")), "{svg}");
        assert!(svg.contains(&format!("width=\"{:.1}\"", longest / 2.0)), "{svg}");
        assert!(svg.contains("b&lt;c"), "{svg}");
        assert!(svg.contains("2.00M") && svg.contains("1.00M") && svg.contains('–'), "{svg}");
    }
}
