//! What was found, as a table and as JSON.

use std::{fmt::Write, time::Duration};

use serde_json::json;

use crate::{machine::Machine, rounds::Spread};

/// What a figure must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    /// It only explains another one.
    Nothing,
}

/// A line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The name of the line that measured it.
    pub(crate) line: &'static str,
    pub(crate) what: String,
    pub(crate) against: String,
    pub(crate) wanted: Wanted,
    /// Of the figure: none for a ratio.
    pub(crate) unit: &'static str,
    pub(crate) seen: Spread,
    /// The figures behind the ratio, or what else is to be known.
    pub(crate) note: String,
}

impl Row {
    fn met(&self) -> Option<bool> {
        match self.wanted {
            Wanted::AtLeast(least) => Some(self.seen.median >= least),
            Wanted::AtMost(most) => Some(self.seen.median <= most),
            Wanted::Nothing => None,
        }
    }

    fn cells(&self) -> [String; 6] {
        let figure = |value: f64| figure(value, self.unit);
        let Spread {
            median,
            least,
            most,
        } = self.seen;
        [
            self.what.clone(),
            self.against.clone(),
            match self.wanted {
                Wanted::AtLeast(least) => format!("≥ {}", figure(least)),
                Wanted::AtMost(most) => format!("≤ {}", figure(most)),
                Wanted::Nothing => String::new(),
            },
            format!("{} ({}..{})", figure(median), figure(least), figure(most)),
            match self.met() {
                Some(true) => "met".to_owned(),
                Some(false) => "**missed**".to_owned(),
                None => String::new(),
            },
            self.note.clone(),
        ]
    }
}

/// All that a run has found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a row, and shows it at once: a run takes its time.
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("{}: {}", row.line, row.cells().join(" | "));
        self.rows.push(row);
    }

    /// The table of docs/performance.md.
    pub(crate) fn table(&self, machine: &Machine, rounds: usize, time: Duration) -> String {
        let mut table = format!("{machine}; {rounds} rounds of {} s.\n\n", time.as_secs());
        table.push_str("| what | against | wanted | seen: median (min..max) | | figures |\n");
        table.push_str("|---|---|---|---|---|---|\n");
        for row in &self.rows {
            let _ = writeln!(table, "| {} |", row.cells().join(" | "));
        }
        table
    }

    /// The same for programs.
    pub(crate) fn json(&self, machine: &Machine, rounds: usize, time: Duration) -> String {
        let rows = self.rows.iter().map(|row| {
            let (bound, value) = match row.wanted {
                Wanted::AtLeast(value) => (Some("at least"), Some(value)),
                Wanted::AtMost(value) => (Some("at most"), Some(value)),
                Wanted::Nothing => (None, None),
            };
            json!({
                "line": row.line,
                "what": row.what,
                "against": row.against,
                "unit": row.unit,
                "bound": bound,
                "wanted": value,
                "median": row.seen.median,
                "min": row.seen.least,
                "max": row.seen.most,
                "met": row.met(),
                "note": row.note,
            })
        });
        let report = json!({
            "cores": machine.cores,
            "processor": machine.processor,
            "kernel": machine.kernel,
            "disk": machine.disk,
            "load_before": machine.load.0,
            "load_after": machine.load.1,
            "rounds": rounds,
            "seconds": time.as_secs(),
            "rows": rows.collect::<Vec<_>>(),
        });
        format!("{report:#}")
    }
}

/// A number with as many digits as mean something, and its unit.
pub(crate) fn figure(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let number = format!("{value:.digits$}");
    if digits > 0 || !unit.is_empty() {
        return if unit.is_empty() {
            number
        } else {
            format!("{number} {unit}")
        };
    }
    thousands(value)
}

/// A whole number, in groups of three digits.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
