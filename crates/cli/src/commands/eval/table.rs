//! Scores as a table for reading.

use mmada_grade::{Report, Score};

/// The scores of all reports, a line each.
pub(super) fn table(reports: &[Report]) -> String {
    let mut rows = vec![
        [
            "data",
            "split",
            "task",
            "score",
            "value",
            "95 % interval",
            "n",
        ]
        .map(str::to_owned),
    ];
    for report in reports {
        for score in &report.scores {
            let Score { name, n, .. } = score;
            rows.push([
                report.data.clone(),
                report.split.clone(),
                report.task.name().to_owned(),
                name.clone(),
                number(score, score.value),
                format!(
                    "{} .. {}",
                    number(score, score.low),
                    number(score, score.high)
                ),
                n.to_string(),
            ]);
        }
    }
    let costs: Vec<String> = reports.iter().filter_map(cost).collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..7).map(width).collect();
    let line = |row: &[String; 7]| {
        let cell = |(at, cell): (usize, &String)| match at {
            0..4 => format!("{cell:<width$}", width = widths[at]),
            _ => format!("{cell:>width$}", width = widths[at]),
        };
        row.iter()
            .enumerate()
            .map(cell)
            .collect::<Vec<_>>()
            .join("  ")
    };
    let lines = rows.iter().map(line).chain(costs);
    lines.collect::<Vec<_>>().join("\n")
}

/// What sampling took, in one line.
fn cost(report: &Report) -> Option<String> {
    let cost = report.cost?;
    Some(format!(
        "{} {} {}: {:.1} steps an item, {:.2} tokens and {:.0} rows a forward, {:.2} s",
        report.data,
        report.split,
        report.task.name(),
        cost.steps,
        cost.tokens_per_forward,
        cost.rows_per_token * cost.tokens_per_forward,
        cost.seconds,
    ))
}

/// Shares as per cent, everything else with two decimals.
fn number(score: &Score, value: f64) -> String {
    let is_share = (0.0..=1.0).contains(&score.low) && (0.0..=1.0).contains(&score.high);
    match is_share {
        true => format!("{:.1} %", 100.0 * value),
        false => format!("{value:.2}"),
    }
}
