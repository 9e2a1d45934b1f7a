//! Object stores by URL, configured by the environment and by options.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::{plan_datafusion_err, plan_err};
use datafusion::error::Result;
use datafusion::prelude::SessionContext;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use crate::Location;

/// Options of ours, beside those of the stores: how often and how long a request is repeated.
const MAX_RETRIES: &str = "max_retries";
const RETRY_TIMEOUT: &str = "retry_timeout";

/// Makes the store of a location known to the session, unless it is a local disk, or is known already and there are no
/// options to set.
///
/// `s3://`, `gs://`, `az://` (also `abfss://`, `azure://`), `http://` and `https://` are known.
/// Credentials come from the environment as each store's own tools have it, and from `options`, which
/// take the names of [`AmazonS3ConfigKey`], [`GoogleConfigKey`], [`AzureConfigKey`] and
/// [`ClientConfigKey`]; also `max_retries` and `retry_timeout` (seconds).
///
/// # Errors
/// For a scheme that is not known, an option that the store does not have, or a configuration that it
/// refuses.
pub fn register_store(
    context: &SessionContext,
    location: &Location,
    options: &BTreeMap<String, String>,
) -> Result<()> {
    if location.is_local() {
        return Ok(());
    }
    let url = location.object_store_url();
    let url: &Url = url.as_ref();
    let env = context.runtime_env();
    // A session may make stores of its own accord, from the environment alone.
    if options.is_empty() && env.object_store_registry.get_store(url).is_ok() {
        return Ok(());
    }
    let store = store(url, options)
        .map_err(|error| error.context(format!("cannot use '{}'", location.text())))?;
    env.register_object_store(url, store);
    Ok(())
}

/// The store of a URL's host or bucket.
///
/// # Errors
/// As [`register_store`].
pub(crate) fn store(url: &Url, options: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>> {
    let retry = retry(options)?;
    let own = |name: &str| name == MAX_RETRIES || name == RETRY_TIMEOUT;
    let options: Vec<(&String, &String)> = options.iter().filter(|(name, _)| !own(name)).collect();
    Ok(match url.scheme() {
        "s3" | "s3a" => {
            let mut builder = AmazonS3Builder::from_env().with_url(url.as_str());
            for (name, value) in options {
                builder = builder.with_config(key::<AmazonS3ConfigKey>(name, "S3")?, value);
            }
            Arc::new(builder.with_retry(retry).build()?)
        }
        "gs" | "gcs" => {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str());
            for (name, value) in options {
                builder = builder
                    .with_config(key::<GoogleConfigKey>(name, "Google Cloud Storage")?, value);
            }
            Arc::new(builder.with_retry(retry).build()?)
        }
        "az" | "azure" | "adl" | "abfs" | "abfss" => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str());
            for (name, value) in options {
                builder = builder.with_config(key::<AzureConfigKey>(name, "Azure")?, value);
            }
            Arc::new(builder.with_retry(retry).build()?)
        }
        "http" | "https" => {
            let mut client = ClientOptions::new().with_allow_http(true);
            for (name, value) in options {
                client = client.with_config(key::<ClientConfigKey>(name, "HTTP")?, value);
            }
            let builder = HttpBuilder::new().with_url(url.as_str());
            let builder = builder.with_client_options(client).with_retry(retry);
            Arc::new(builder.build()?)
        }
        other => {
            return plan_err!(
                "no store is known for '{other}://': write a local path, s3://, gs://, az:// or http(s)://"
            );
        }
    })
}

fn key<K: FromStr>(name: &str, store: &str) -> Result<K> {
    name.to_ascii_lowercase().parse().map_err(|_| {
        plan_datafusion_err!(
            "{store} has no option '{name}': see its configuration keys in the object_store crate, such as \
             aws_region, endpoint or allow_http"
        )
    })
}

/// Requests that fail with 5xx, 429 or a time-out are repeated with growing pauses.
fn retry(options: &BTreeMap<String, String>) -> Result<RetryConfig> {
    let mut retry = RetryConfig {
        backoff: BackoffConfig::default(),
        ..RetryConfig::default()
    };
    let number = |name: &str| -> Result<Option<u64>> {
        let Some(text) = options.get(name) else {
            return Ok(None);
        };
        let number = text.parse().map_err(|_| {
            plan_datafusion_err!("option {name} must be a whole number, got '{text}'")
        })?;
        Ok(Some(number))
    };
    if let Some(times) = number(MAX_RETRIES)? {
        retry.max_retries = usize::try_from(times).unwrap_or(usize::MAX);
    }
    if let Some(seconds) = number(RETRY_TIMEOUT)? {
        retry.retry_timeout = Duration::from_secs(seconds);
    }
    Ok(retry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str, options: &[(&str, &str)]) -> String {
        let options = options.iter();
        let options = options.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let context = SessionContext::new();
        let location = Location::parse(url).unwrap();
        let error = register_store(&context, &location, &options.collect()).unwrap_err();
        error.to_string()
    }

    #[test]
    fn options_are_checked() {
        let message = error("s3://bucket/x", &[("aws_zone", "x")]);
        assert!(message.contains("no option 'aws_zone'"), "{message}");
        let message = error("s3://bucket/x", &[("max_retries", "many")]);
        assert!(message.contains("must be a whole number"), "{message}");
        let message = error("ftp://host/x", &[]);
        assert!(
            message.contains("no store is known for 'ftp://'"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn stores_are_made_once() {
        let context = SessionContext::new();
        let options: BTreeMap<String, String> = [("region", "eu-1"), ("retry_timeout", "7")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        for url in ["s3://bucket/a", "s3://bucket/b/"] {
            let location = Location::parse(url).unwrap();
            register_store(&context, &location, &options).unwrap();
            assert!(
                context
                    .runtime_env()
                    .object_store(location.object_store_url())
                    .is_ok()
            );
        }
    }
}
