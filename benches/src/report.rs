//! Results as a table and as JSON.

use std::{fmt::Write, time::Duration};

use serde_json::json;

use crate::{machine::Machine, rounds::MedianRange};

/// The target of a result.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// No target: it explains another result.
    Informational,
}

/// A row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The name of the scenario.
    pub(crate) scenario: &'static str,
    pub(crate) what: String,
    pub(crate) against: String,
    pub(crate) target: Target,
    /// Unit of the result; empty for a ratio.
    pub(crate) unit: &'static str,
    pub(crate) measured: MedianRange,
    /// The absolute numbers behind a ratio, or other remarks.
    pub(crate) note: String,
}

impl Row {
    fn met(&self) -> Option<bool> {
        match self.target {
            Target::AtLeast(least) => Some(self.measured.median >= least),
            Target::AtMost(most) => Some(self.measured.median <= most),
            Target::Informational => None,
        }
    }

    fn cells(&self) -> [String; 6] {
        let figure = |value: f64| figure(value, self.unit);
        let MedianRange {
            median,
            least,
            most,
        } = self.measured;
        [
            self.what.clone(),
            self.against.clone(),
            match self.target {
                Target::AtLeast(least) => format!("≥ {}", figure(least)),
                Target::AtMost(most) => format!("≤ {}", figure(most)),
                Target::Informational => String::new(),
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

/// All results of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a row, and prints it at once, because a run takes long.
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("{}: {}", row.scenario, row.cells().join(" | "));
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

    /// The results as JSON.
    pub(crate) fn json(&self, machine: &Machine, rounds: usize, time: Duration) -> String {
        let rows = self.rows.iter().map(|row| {
            let (bound, value) = match row.target {
                Target::AtLeast(value) => (Some("at least"), Some(value)),
                Target::AtMost(value) => (Some("at most"), Some(value)),
                Target::Informational => (None, None),
            };
            json!({
                "line": row.scenario,
                "what": row.what,
                "against": row.against,
                "unit": row.unit,
                "bound": bound,
                "wanted": value,
                "median": row.measured.median,
                "min": row.measured.least,
                "max": row.measured.most,
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

/// Formats a number with its significant digits and its unit.
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

/// Formats a whole number with thousands separators.
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
