//! Changes members of a JSON object by cutting its text, so that everything else stays as it was.

use super::json::{self, JsonError, Kind, Value};

/// What becomes of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Its value becomes this text; the member is added at the end where it is missing.
    Set(String),
    /// It goes.
    Remove,
}

/// The text of the object `text` with `edits` applied, in order. A key that stands there twice is left once.
///
/// # Errors
/// When `text` is not a JSON object.
pub fn edit_object(text: &str, edits: &[(&str, Edit)]) -> Result<String, JsonError> {
    let mut text = text.to_owned();
    for (key, edit) in edits {
        text = apply(&text, key, edit)?;
    }
    Ok(text)
}

/// `content` as a JSON string, quotes included, ASCII only (as zarr-python writes).
pub fn quote(content: &str) -> String {
    let mut quoted = String::with_capacity(content.len() + 2);
    quoted.push('"');
    for c in content.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            ' '..='~' => quoted.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    quoted.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    quoted.push('"');
    quoted
}

/// The JSON text of a list of lengths.
pub fn lengths(lengths: &[u64]) -> String {
    let texts: Vec<String> = lengths.iter().map(u64::to_string).collect();
    format!("[{}]", texts.join(", "))
}

fn apply(text: &str, key: &str, edit: &Edit) -> Result<String, JsonError> {
    let object = json::parse(text)?;
    let Kind::Object(members) = &object.kind else {
        return Err(JsonError { offset: object.span().start, problem: "expected an object" });
    };
    let places: Vec<usize> = (0..members.len()).filter(|&i| members.get(i).is_some_and(|m| m.key == key)).collect();
    let (last, gone) = match (edit, places.split_last()) {
        (Edit::Set(value), None) => return Ok(append(text, &object, key, value)),
        (Edit::Set(value), Some((last, gone))) => (Some((*last, value)), gone),
        (Edit::Remove, _) => (None, places.as_slice()),
    };
    let mut result = String::with_capacity(text.len());
    // A member is cut out together with the separator before it, the first ones with the one after.
    let Some(first) = members.first() else {
        return Ok(text.to_owned());
    };
    result.push_str(text.get(..first.key_start).unwrap_or_default());
    let mut kept = 0usize;
    for (place, member) in members.iter().enumerate() {
        if gone.contains(&place) {
            continue;
        }
        if kept > 0 {
            let previous_end = members.get(place.wrapping_sub(1)).map_or(0, |m| m.value.span().end);
            result.push_str(text.get(previous_end..member.key_start).unwrap_or_default());
        }
        kept += 1;
        let span = member.value.span();
        result.push_str(text.get(member.key_start..span.start).unwrap_or_default());
        match last {
            Some((last_place, value)) if last_place == place => result.push_str(value),
            _ => result.push_str(member.value.text()),
        }
    }
    let end = members.last().map_or(first.key_start, |m| m.value.span().end);
    result.push_str(text.get(end..).unwrap_or_default());
    Ok(result)
}

/// Adds a member at the end, with the white space that the object's other members have.
fn append(text: &str, object: &Value<'_>, key: &str, value: &str) -> String {
    let members = object.members();
    let (at, before) = match (members.first(), members.last()) {
        (Some(first), Some(last)) => {
            let space = text.get(object.span().start + 1..first.key_start).unwrap_or_default();
            // On one line, members stand apart by a blank even where the brace hugs the first.
            let space = if space.is_empty() && members.len() > 1 { " " } else { space };
            (last.value.span().end, format!(",{space}"))
        }
        _ => (object.span().start + 1, String::new()),
    };
    let (head, tail) = text.split_at(at.min(text.len()));
    format!("{head}{before}{}: {value}{tail}", quote(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, edits: &[(&str, Edit)], expected: &str) {
        let edited = edit_object(text, edits).unwrap();
        assert_eq!(edited, expected);
        json::parse(&edited).unwrap();
    }

    fn set(value: &str) -> Edit {
        Edit::Set(value.to_owned())
    }

    #[test]
    fn only_the_member_changes() {
        check(
            "{\n  \"a\": NaN,\n  \"b\" : 1.50,\n  \"c\": 18446744073709551617\n}\n",
            &[("b", set("[1]"))],
            "{\n  \"a\": NaN,\n  \"b\" : [1],\n  \"c\": 18446744073709551617\n}\n",
        );
    }

    #[test]
    fn members_are_added_in_the_style_of_the_text() {
        check("{\n  \"a\": 1\n}", &[("b", set("2"))], "{\n  \"a\": 1,\n  \"b\": 2\n}");
        check("{\"a\": 1, \"c\": 2}", &[("b", set("2"))], "{\"a\": 1, \"c\": 2, \"b\": 2}");
        check(" {} ", &[("b", set("2"))], " {\"b\": 2} ");
    }

    #[test]
    fn removed_members_leave_a_valid_object() {
        let text = "{ \"a\": 1, \"b\": 2, \"c\": 3 }";
        check(text, &[("a", Edit::Remove)], "{ \"b\": 2, \"c\": 3 }");
        check(text, &[("b", Edit::Remove)], "{ \"a\": 1, \"c\": 3 }");
        check(text, &[("c", Edit::Remove)], "{ \"a\": 1, \"b\": 2 }");
        check(text, &[("a", Edit::Remove), ("b", Edit::Remove), ("c", Edit::Remove)], "{  }");
        check(text, &[("x", Edit::Remove)], text);
    }

    #[test]
    fn duplicates_are_left_once() {
        check("{\"a\":1,\"b\":0,\"a\":2}", &[("a", set("9"))], "{\"b\":0,\"a\":9}");
        check("{\"a\":1,\"b\":0,\"a\":2}", &[("a", Edit::Remove)], "{\"b\":0}");
    }

    #[test]
    fn keys_are_compared_decoded() {
        check("{\"\\u0061\": 1}", &[("a", set("2"))], "{\"\\u0061\": 2}");
    }

    #[test]
    fn quoting_survives_a_round_trip() {
        for content in ["", "a\"b\\c\n\t\u{1}", "\u{e9}\u{1f600}"] {
            assert_eq!(json::parse(&quote(content)).unwrap().string().unwrap(), content);
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(edit_object(" []", &[("a", Edit::Remove)]).unwrap_err().to_string(), "expected an object at byte 1");
    }
}
