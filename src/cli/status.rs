//! `status`: what is mounted and how it fares; without an argument also whether this machine can mount.

use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};
use rechunkfs::fuse::STATUS_ATTRIBUTE;
use rechunkfs::fuse::machine::Machine;
use rechunkfs::mounts::{self, Mount};
use serde_json::{Value, json};

use super::output;
use super::report::table;
use super::state::Record;

/// A daemon that has not answered by then hangs.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Runs `status`.
pub(crate) fn run(mountpoint: Option<&Path>, json: bool) -> anyhow::Result<ExitCode> {
    match mountpoint {
        Some(point) => one(point, json),
        None => all(json),
    }
}

fn one(point: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let resolved = mounts::resolve(point).with_context(|| format!("{}", point.display()))?;
    let state = match mounts::at(&resolved)? {
        Some(mount) if mount.is_ours() => describe(&mount),
        // Perhaps mounted by somebody else, and handed to us: then the view answers all the same.
        Some(mount) => match ask(&resolved) {
            Answer::Status(_) => describe(&mount),
            _ => bail!("{} is not a rechunkfs mount but {}", resolved.display(), mount.fs_type),
        },
        None => bail!("{} is not mounted; `rechunkfs status` lists what is", resolved.display()),
    };
    if json {
        output::json("status", state);
    } else {
        output::text(&lines(&state, ""));
    }
    Ok(ExitCode::SUCCESS)
}

fn all(json: bool) -> anyhow::Result<ExitCode> {
    let mounts: Vec<Value> = mounts::list()?.iter().filter(|mount| mount.is_ours()).map(describe).collect();
    let machine = Machine::look();
    let verdict = machine.check(false);
    if json {
        let machine = json!({
            "can_mount": verdict.is_ok(),
            "why_not": verdict.err().map(|cause| cause.to_string()),
            "dev_fuse": machine.has_device,
            "fusermount3": machine.helper,
            "root": machine.is_root,
            "user_allow_other": machine.user_allow_other,
        });
        output::json("status", json!({ "mounts": mounts, "machine": machine }));
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for state in &mounts {
        text.push_str(&lines(state, ""));
        text.push('\n');
    }
    if mounts.is_empty() {
        text.push_str("nothing is mounted\n\n");
    }
    text.push_str(&machine_text(&machine));
    match verdict {
        Ok(()) => text.push_str("this machine can mount\n"),
        Err(cause) => text.push_str(&format!("this machine cannot mount: {cause}\n")),
    }
    output::text(&text);
    Ok(ExitCode::SUCCESS)
}

fn machine_text(machine: &Machine) -> String {
    let yes_or_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let helper = match (&machine.helper, machine.helper_is_setuid) {
        (None, _) => "missing".to_owned(),
        (Some(path), true) => path.display().to_string(),
        (Some(path), false) => format!("{} (not setuid root)", path.display()),
    };
    let device = match (machine.has_device, machine.device_opens) {
        (false, _) => "missing",
        (true, true) => "present",
        (true, false) => "present (opened through fusermount3)",
    };
    table(
        [
            ["/dev/fuse".to_owned(), device.to_owned()],
            ["fusermount3".to_owned(), helper],
            ["root".to_owned(), yes_or_no(machine.is_root)],
            ["user_allow_other".to_owned(), yes_or_no(machine.user_allow_other)],
        ]
        .iter(),
    )
}

fn describe(mount: &Mount) -> Value {
    let record = Record::read(&mount.point).filter(|record| record.mount_id == mount.id);
    let mut state = json!({
        "mountpoint": mount.point,
        "source": mount.source,
        "pid": record.as_ref().map(|record| record.pid),
        "log": record.as_ref().and_then(|record| record.log.clone()),
        "memory_bytes": record.as_ref().map(|record| record.memory_bytes),
        "threads": record.as_ref().map(|record| record.threads),
    });
    match ask(&mount.point) {
        Answer::Status(view) => {
            state["state"] = "serving".into();
            state["view"] = view;
        }
        Answer::Stale => {
            let remedy = format!("stale; clear it: rechunkfs unmount --lazy {}", mount.point.display());
            state["state"] = remedy.into();
        }
        Answer::Silent(why) => state["state"] = format!("no answer: {why}").into(),
    }
    state
}

enum Answer {
    Status(Value),
    Stale,
    Silent(String),
}

fn ask(point: &Path) -> Answer {
    let (send, answer) = mpsc::channel();
    let path = point.to_owned();
    // A thread that hangs with the daemon is left behind; it ends with this process.
    std::thread::spawn(move || {
        // The answer may grow between two questions, so there is one, with room to spare.
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::getxattr(&path, STATUS_ATTRIBUTE, &mut value);
        let _ = send.send(length.map(|length| value[..length].to_vec()));
    });
    match answer.recv_timeout(ANSWER_TIME) {
        Ok(Ok(value)) => match serde_json::from_slice(&value) {
            Ok(view) => Answer::Status(view),
            Err(cause) => Answer::Silent(cause.to_string()),
        },
        Ok(Err(rustix::io::Errno::NOTCONN)) => Answer::Stale,
        Ok(Err(cause)) => Answer::Silent(cause.to_string()),
        Err(_) => Answer::Silent(format!("nothing for {} s", ANSWER_TIME.as_secs())),
    }
}

/// A JSON object as lines; objects in it are indented.
fn lines(value: &Value, indent: &str) -> String {
    let mut text = String::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        let key = key.replace('_', " ");
        match value {
            Value::Null => {}
            Value::Object(_) => text.push_str(&format!("{indent}{key}:\n{}", lines(value, &format!("{indent}  ")))),
            Value::String(string) => text.push_str(&format!("{indent}{key}: {string}\n")),
            Value::Array(list) if list.is_empty() => text.push_str(&format!("{indent}{key}: none\n")),
            Value::Array(list) => {
                text.push_str(&format!("{indent}{key}:\n"));
                for item in list {
                    let item = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
                    text.push_str(&format!("{indent}  {item}\n"));
                }
            }
            other => text.push_str(&format!("{indent}{key}: {other}\n")),
        }
    }
    text
}
