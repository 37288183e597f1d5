//! What goes to stdout and stderr, and in which dress. A reader that has gone away is not our failure.

use std::io::Write;

/// The JSON results' version; it goes up when a field changes its meaning or goes away.
const JSON_VERSION: u32 = 1;

/// One line on stderr.
pub(crate) fn error(message: &str) {
    let _ = writeln!(std::io::stderr(), "rechunkfs: {message}");
}

/// One line on stderr that stops nothing.
pub(crate) fn warning(message: &str) {
    let _ = writeln!(std::io::stderr(), "rechunkfs: warning: {message}");
}

/// A line on stderr that the user should know of.
pub(crate) fn note(message: &str) {
    error(message);
}

/// The result, as text.
pub(crate) fn text(result: &str) {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(result.as_bytes()).and_then(|()| stdout.flush());
}

/// The result, as the one JSON document on stdout.
pub(crate) fn json(command: &str, result: serde_json::Value) {
    text(&json_text(command, result));
}

/// The same, for somebody else to print.
pub(crate) fn json_text(command: &str, result: serde_json::Value) -> String {
    let mut document = serde_json::Map::new();
    document.insert("rechunkfs".to_owned(), command.into());
    document.insert("version".to_owned(), JSON_VERSION.into());
    if let serde_json::Value::Object(fields) = result {
        document.extend(fields);
    }
    format!("{}\n", serde_json::Value::Object(document))
}
