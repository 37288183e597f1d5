//! From a URL, the environment and options to a client; from a path to an archive.

use super::archive::Archive;
use super::{Key, Objects, Totals};
use crate::source::store::StorageOption;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig};
use std::io;
use std::path::Path;
use std::sync::RwLock;
use std::time::Duration;
use url::{Position, Url};

/// Before the first retry.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const MAX_RETRIES: usize = 6;
/// Nothing is retried for longer: a reader waits, and so does whoever mounts (30 s for a sign of life).
const PATIENCE: Duration = Duration::from_secs(20);
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// For what is on the wire; whoever waits does so in threads of their own.
const THREADS: usize = 2;
/// Options with one of these in their name are secret.
const SECRET: [&str; 6] = ["secret", "token", "password", "access_key", "account_key", "sas"];
/// Values shorter than this are none, and would make messages unreadable.
const LEAST_SECRET: usize = 6;

/// Applies variables (unknown ones are somebody else's) and options to a builder, and builds.
macro_rules! build {
    ($builder:expr, $key:ty, $options:expr) => {{
        let mut builder = $builder.with_retry(retry()).with_client_options(client());
        for (key, value) in std::env::vars() {
            if let Ok(key) = key.to_ascii_lowercase().parse::<$key>() {
                builder = builder.with_config(key, value);
            }
        }
        for (key, value) in $options {
            let known = key.to_ascii_lowercase().parse::<$key>();
            builder =
                builder.with_config(known.map_err(|_| refused(format!("no option {key} for this store")))?, value);
        }
        Box::new(builder.build().map_err(|error| refused(error.to_string()))?) as Box<dyn ObjectStore>
    }};
}

impl Objects {
    /// The objects below `url`. Asks nothing of the server.
    ///
    /// # Errors
    /// Where the URL or an option makes no sense, or the URL holds credentials.
    pub fn open(url: &str, options: &[StorageOption]) -> io::Result<Self> {
        // It would be in the mount table, in logs and in messages. So this one does not repeat it.
        let parsed = Url::parse(url).map_err(|error| refused(format!("not a URL: {error}")))?;
        if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some() {
            return Err(refused(
                "credentials and queries do not belong into the URL of a source, which everybody can see; give them by \
                 the environment (AWS_ACCESS_KEY_ID and so on)"
                    .to_owned(),
            ));
        }
        let (scheme, prefix) = ObjectStoreScheme::parse(&parsed).map_err(|_| {
            refused(format!("{}: unknown kind of URL; there are s3, gs, az, http and https", parsed.scheme()))
        })?;
        let mut options = options.to_vec();
        let is_plain = |endpoint: &str| endpoint.starts_with("http://");
        let endpoint = options.iter().find(|(key, _)| key.to_ascii_lowercase().contains("endpoint"));
        let endpoint = endpoint.map(|(_, value)| value.clone());
        let endpoint = endpoint.or_else(|| {
            ["AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_ENDPOINT"].iter().find_map(|name| std::env::var(name).ok())
        });
        // Whoever spells it out means it.
        if is_plain(url) || endpoint.as_deref().is_some_and(is_plain) {
            options.push(("allow_http".to_owned(), "true".to_owned()));
        }
        let mut is_listed = true;
        let store = match scheme {
            ObjectStoreScheme::AmazonS3 => {
                // Directory buckets list in no order.
                is_listed = !parsed.host_str().unwrap_or_default().contains("--x-s3");
                build!(AmazonS3Builder::new().with_url(url), AmazonS3ConfigKey, &options)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                build!(GoogleCloudStorageBuilder::new().with_url(url), GoogleConfigKey, &options)
            }
            ObjectStoreScheme::MicrosoftAzure => {
                build!(MicrosoftAzureBuilder::new().with_url(url), AzureConfigKey, &options)
            }
            ObjectStoreScheme::Http => {
                is_listed = false;
                build!(HttpBuilder::new().with_url(&parsed[..Position::BeforePath]), ClientConfigKey, &options)
            }
            _ => return Err(refused(format!("{}: unknown kind of URL", parsed.scheme()))),
        };
        let is_secret = |name: &str| {
            let name = name.to_ascii_lowercase();
            SECRET.iter().any(|part| name.contains(part)) && !name.contains("file")
        };
        let given = std::env::vars()
            .filter(|(name, _)| ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|prefix| name.starts_with(prefix)));
        let secrets = given.chain(options.iter().cloned()).filter(|(name, _)| is_secret(name)).map(|(_, value)| value);
        let secrets = secrets.filter(|value| value.len() >= LEAST_SECRET).collect();
        let name = url.trim_end_matches('/').to_owned();
        Ok(Objects { is_listed, secrets, ..Self::of(store, prefix, name, THREADS)? })
    }

    /// The members of the zip archive at `path`, or those in its only folder.
    ///
    /// # Errors
    /// Where it cannot be read, or is damaged.
    pub fn archive(path: &Path) -> io::Result<Self> {
        let archive = Archive::open(path)?;
        let prefix = archive.only_folder().map(Key::from).unwrap_or_default();
        let name = path.to_string_lossy().into_owned();
        Ok(Objects { is_remote: false, ..Self::of(Box::new(archive), prefix, name, 1)? })
    }

    fn of(store: Box<dyn ObjectStore>, prefix: Key, name: String, threads: usize) -> io::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        Ok(Objects {
            store,
            prefix,
            name,
            is_listed: true,
            is_remote: true,
            secrets: Vec::new(),
            runtime: runtime.worker_threads(threads).thread_name("requests").enable_all().build()?,
            totals: Totals::default(),
            nodes: RwLock::default(),
            arrays: RwLock::default(),
        })
    }
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { init_backoff: PAUSE, max_backoff: LONGEST_PAUSE, base: 2.0 },
        max_retries: MAX_RETRIES,
        retry_timeout: PATIENCE,
    }
}

fn client() -> ClientOptions {
    ClientOptions::new().with_connect_timeout(CONNECT_WITHIN)
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
