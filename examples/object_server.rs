//! A server of a directory, as S3 answers, for benchmarks: every request takes so long, and none waits for another.
//!
//!     object_server DIRECTORY [--delay-ms 20]
//!
//! `/BUCKET/KEY` is a file of the directory, whatever the bucket is called. GET whole and by range, HEAD, and list-type=2 with prefix, delimiter, start-after
//! and continuation-token, in pages of 1,000; signatures are not looked at. Prints its port. `GET /-/requests` tells, without
//! delay, how many requests there were by kind and how many bytes of bodies were sent, and `GET /-/reset` forgets them. Each
//! connection has a thread, which sleeps for the delay and then answers. Ends with its standard input.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

/// Entries of one page of a listing.
const PAGE: usize = 1000;
/// Bodies up to here go with what stands before them.
const PACKET: usize = 64 << 10;

#[derive(Parser)]
#[command(about = "A server of a directory, as S3 answers, each request after a delay")]
struct Args {
    directory: PathBuf,
    #[arg(long, default_value_t = 20)]
    delay_ms: u64,
}

#[derive(Default)]
struct Counts {
    gets: AtomicU64,
    heads: AtomicU64,
    lists: AtomicU64,
    bytes: AtomicU64,
    connections: AtomicU64,
    now: AtomicI64,
    most_at_once: AtomicI64,
}

struct Server {
    root: PathBuf,
    delay: Duration,
    counts: Counts,
}

/// What of a listing is asked for.
struct Asked<'a> {
    prefix: &'a str,
    after: &'a str,
    is_by_folder: bool,
}

/// What is answered: a status, further header lines, and a body, of which HEAD tells the length alone.
struct Answer {
    status: u16,
    headers: String,
    n_bytes: u64,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, body: Vec<u8>) -> Self {
        Answer { status, headers: String::new(), n_bytes: body.len() as u64, body }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let root = args.directory.canonicalize().with_context(|| args.directory.display().to_string())?;
    let server = Arc::new(Server { root, delay: Duration::from_millis(args.delay_ms), counts: Counts::default() });
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = Arc::clone(&server);
            // A client that goes away is no matter.
            std::thread::spawn(move || server.serve(stream).ok());
        }
    });
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

impl Server {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        self.counts.connections.fetch_add(1, Relaxed);
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let mut words = line.split(' ');
            let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let mut headers = HashMap::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let Some((name, value)) = line.trim_end().split_once(':') else { break };
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
            let n_body = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
            io::copy(&mut reader.by_ref().take(n_body), &mut io::sink())?;
            let answer = if let Some(asked) = target.strip_prefix("/-/") {
                self.control(asked)
            } else {
                let now = self.counts.now.fetch_add(1, Relaxed) + 1;
                self.counts.most_at_once.fetch_max(now, Relaxed);
                std::thread::sleep(self.delay);
                let answer = self.answer(method, target, headers.get("range").map(String::as_str));
                self.counts.now.fetch_sub(1, Relaxed);
                let answer = answer.unwrap_or_else(|error| Answer::new(500, error.to_string().into_bytes()));
                self.counts.bytes.fetch_add(answer.body.len() as u64, Relaxed);
                answer
            };
            let Answer { status, headers, n_bytes, body } = answer;
            let mut reply = format!("HTTP/1.1 {status} x\r\ncontent-length: {n_bytes}\r\n{headers}\r\n").into_bytes();
            // Small ones in one packet, long ones without another copy.
            let n = if body.len() < PACKET { body.len() } else { 0 };
            reply.extend_from_slice(&body[..n]);
            stream.write_all(&reply)?;
            stream.write_all(&body[n..])?;
        }
    }

    fn control(&self, asked: &str) -> Answer {
        let Counts { gets, heads, lists, bytes, connections, most_at_once, .. } = &self.counts;
        if asked == "reset" {
            for count in [gets, heads, lists, bytes, connections] {
                count.store(0, Relaxed);
            }
            most_at_once.store(0, Relaxed);
        }
        let counts = serde_json::json!({
            "get": gets.load(Relaxed), "head": heads.load(Relaxed), "list": lists.load(Relaxed),
            "bytes": bytes.load(Relaxed), "connections": connections.load(Relaxed),
            "most_at_once": most_at_once.load(Relaxed),
        });
        Answer::new(200, counts.to_string().into_bytes())
    }

    fn answer(&self, method: &str, target: &str, range: Option<&str>) -> io::Result<Answer> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: HashMap<String, String> = query.split('&').filter_map(pair).collect();
        let path = unescaped(path);
        let key = path.trim_matches('/').split_once('/').map_or("", |(_, key)| key);
        if query.contains_key("list-type") {
            self.counts.lists.fetch_add(1, Relaxed);
            return self.list(&query);
        }
        let is_head = method == "HEAD";
        if is_head { &self.counts.heads } else { &self.counts.gets }.fetch_add(1, Relaxed);
        let file = File::open(self.root.join(key)).and_then(|file| Ok((file.metadata()?, file)));
        let Some((found, file)) = file.ok().filter(|(found, _)| found.is_file()) else {
            return Ok(Answer::new(404, b"<Error><Code>NoSuchKey</Code></Error>".to_vec()));
        };
        let size = found.len();
        let mut headers =
            format!("etag: \"{}\"\r\nlast-modified: {HTTP_TIME}\r\naccept-ranges: bytes\r\n", tag(&found));
        let (mut start, mut end, mut status) = (0, size, 200);
        if let Some((first, last)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) {
            match (first.parse::<u64>(), last.parse::<u64>()) {
                (Ok(first), last) => (start, end) = (first, last.map_or(size, |last| size.min(last + 1))),
                (Err(_), Ok(last)) => start = size.saturating_sub(last),
                (Err(_), Err(_)) => {}
            }
            if start >= size {
                return Ok(Answer::new(416, Vec::new()));
            }
            status = 206;
            headers += &format!("content-range: bytes {start}-{}/{size}\r\n", end - 1);
        }
        let mut body = vec![0; if is_head { 0 } else { (end - start) as usize }];
        file.read_exact_at(&mut body, start)?;
        Ok(Answer { status, headers, n_bytes: end - start, body })
    }

    fn list(&self, query: &HashMap<String, String>) -> io::Result<Answer> {
        let get = |name: &str| query.get(name).map_or("", String::as_str);
        let from = if query.contains_key("continuation-token") { "continuation-token" } else { "start-after" };
        let asked = Asked { prefix: get("prefix"), after: get(from), is_by_folder: !get("delimiter").is_empty() };
        let mut found = Vec::new();
        collect(&self.root, asked.prefix.rsplit_once('/').map_or("", |(folder, _)| folder), &asked, &mut found)?;
        let mut page = String::new();
        for (key, state) in found.iter().take(PAGE) {
            page += &match state {
                None => format!("<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>"),
                Some(found) => format!(
                    "<Contents><Key>{key}</Key><LastModified>{LIST_TIME}</LastModified><ETag>&quot;{}&quot;</ETag>\
                     <Size>{}</Size></Contents>",
                    tag(found),
                    found.len()
                ),
            };
        }
        let last = found.get(PAGE - 1).filter(|_| found.len() > PAGE);
        let token =
            last.map_or(String::new(), |(key, _)| format!("<NextContinuationToken>{key}</NextContinuationToken>"));
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <IsTruncated>{}</IsTruncated>{token}{page}</ListBucketResult>",
            last.is_some()
        );
        Ok(Answer { headers: "content-type: application/xml\r\n".to_owned(), ..Answer::new(200, text.into_bytes()) })
    }
}

/// Stores that are measured do not change; their ETags tell them apart.
const HTTP_TIME: &str = "Mon, 02 Jan 2023 00:00:00 GMT";
const LIST_TIME: &str = "2023-01-02T00:00:00.000Z";

/// Adds the keys below a folder that come after one, in order, up to one more than a page. With a prefix that ends within a
/// name, those that begin with it.
fn collect(
    root: &Path,
    folder: &str,
    asked: &Asked<'_>,
    found: &mut Vec<(String, Option<Metadata>)>,
) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return Ok(()) };
    let mut keys = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let key = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let kind = entry.file_type()?;
        let is_folder = kind.is_dir() || kind.is_symlink() && fs::metadata(entry.path())?.is_dir();
        keys.push(if is_folder { key + "/" } else { key });
    }
    keys.sort_unstable();
    for key in keys {
        if found.len() > PAGE {
            return Ok(());
        }
        let is_passed = key.as_str() <= asked.after && !(key.ends_with('/') && asked.after.starts_with(&key));
        if is_passed || !key.starts_with(asked.prefix) {
            continue;
        }
        match key.strip_suffix('/') {
            Some(_) if asked.is_by_folder && key.as_str() <= asked.after => {}
            Some(_) if asked.is_by_folder => found.push((key, None)),
            Some(folder) => collect(root, folder, asked, found)?,
            None => {
                let state = fs::metadata(root.join(&key))?;
                found.push((key, Some(state)));
            }
        }
    }
    Ok(())
}

fn tag(found: &Metadata) -> String {
    let mut hasher = DefaultHasher::new();
    (found.ino(), found.len(), found.mtime(), found.mtime_nsec()).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), unescaped(value)))
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        match escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
