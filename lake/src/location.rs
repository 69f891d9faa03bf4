//! Where a lake lies: in a folder of this machine, or in a bucket of an S3-compatible object store.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use deltalake::{
    DeltaTable, DeltaTableBuilder, DeltaTableError, ensure_table_uri,
    logstore::{StorageConfig, default_logstore},
};
use futures_util::{StreamExt, TryStreamExt};
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut},
    path::Path as StorePath,
    prefix::PrefixStore,
};
use url::Url;

use crate::{LakeError, durable};

/// Folder of a table's log.
pub(crate) const LOG: &str = "_delta_log";

/// Folder of what nodes note for each other, beside the tables.
const NOTES: &str = "nodes";
/// How the names of notes begin that are not written yet.
const DRAFT: &str = ".draft-";

/// How long a request to the object store is tried again. Whoever writes to the lake tries again by itself, and
/// whoever asks waits for the answer.
const RETRY_MAX: Duration = Duration::from_secs(20);

/// Where a lake lies. Cheap to clone.
#[derive(Clone)]
pub struct LakeLocation(Kind);

#[derive(Clone)]
enum Kind {
    Folder(PathBuf),
    Bucket(Arc<Bucket>),
}

struct Bucket {
    name: String,
    /// Ends with a slash.
    url: Url,
    /// The whole bucket.
    root: Arc<dyn ObjectStore>,
    /// What is below the lake's prefix.
    store: Arc<dyn ObjectStore>,
}

/// Why a place cannot hold a lake, or does not answer.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// Neither `file:///…` nor `s3://bucket/prefix`.
    #[error("`{url}` is no place for a lake: {reason}")]
    Invalid {
        /// What was given, without what stands before an `@`.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An `AWS_…` variable cannot be used.
    #[error("the settings of the object store (AWS_… variables) cannot be used")]
    Settings(#[source] Box<StoreError>),
    /// The bucket does not exist.
    #[error("there is no bucket `{bucket}`")]
    NoBucket {
        /// Its name.
        bucket: String,
        /// The answer.
        #[source]
        source: Box<StoreError>,
    },
    /// The credentials are wrong, or may not do what is needed.
    #[error("the object store refuses the credentials for the bucket `{bucket}`")]
    Refused {
        /// Its name.
        bucket: String,
        /// The answer.
        #[source]
        source: Box<StoreError>,
    },
    /// Nobody answers at the endpoint, or not as an object store does.
    #[error("the object store with the bucket `{bucket}` does not answer")]
    Away {
        /// Its name.
        bucket: String,
        /// What came instead.
        #[source]
        source: Box<StoreError>,
    },
    /// The store overwrites where it is asked to create.
    #[error(
        "the object store with the bucket `{bucket}` overwrites a file where it was asked only to create it \
         (If-None-Match): two writers would take each other's commits away"
    )]
    Overwrites {
        /// The bucket's name.
        bucket: String,
    },
    /// A file of the lake could not be read or written.
    #[error("`{path}` could not be read or written")]
    File {
        /// The file, below the lake.
        path: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What a place is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// What is deleted stays in the bucket as an older version.
    pub keeps_versions: bool,
}

impl fmt::Debug for LakeLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LakeLocation").field(&self.to_string()).finish()
    }
}

impl fmt::Display for LakeLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Folder(dir) => write!(f, "{}", dir.display()),
            Kind::Bucket(bucket) => write!(f, "{}", bucket.url),
        }
    }
}

impl From<&Path> for LakeLocation {
    fn from(dir: &Path) -> Self {
        Self(Kind::Folder(dir.to_owned()))
    }
}

impl From<&PathBuf> for LakeLocation {
    fn from(dir: &PathBuf) -> Self {
        Self::from(dir.as_path())
    }
}

impl From<&LakeLocation> for LakeLocation {
    fn from(location: &LakeLocation) -> Self {
        location.clone()
    }
}

impl LakeLocation {
    /// Reads `file:///folder` or `s3://bucket/prefix`. Credentials, endpoint, region and encryption of a bucket are
    /// those of the variables named `AWS_…` among `variables`; the others are passed over. Asks nobody.
    pub fn parse(url: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, LocationError> {
        let shown = url.rfind('@').map_or_else(|| url.to_owned(), |at| format!("…{}", &url[at..]));
        let invalid = |reason| LocationError::Invalid { url: shown.clone(), reason };
        let parsed = Url::parse(url).map_err(|_| invalid("write file:///folder or s3://bucket/prefix"))?;
        match parsed.scheme() {
            "file" => {
                let dir = parsed.to_file_path().map_err(|()| invalid("write the folder as file:///folder"))?;
                Ok(Self(Kind::Folder(dir)))
            }
            "s3" => {
                if url.contains('@') || parsed.query().is_some() || parsed.fragment().is_some() {
                    return Err(invalid("credentials and settings belong into AWS_… variables"));
                }
                let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
                if !parsed.path().chars().all(is_plain) {
                    return Err(invalid("a prefix consists of letters, digits, - _ . and /"));
                }
                let name = parsed.host_str().filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| invalid("the name of the bucket is missing"))?;
                Self::bucket(name, parsed.path(), variables)
            }
            _ => Err(invalid("write file:///folder or s3://bucket/prefix")),
        }
    }

    fn bucket(
        name: &str,
        path: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, LocationError> {
        let mut builder = AmazonS3Builder::new();
        for (variable, value) in variables {
            // What other programs read from the environment is not for this one.
            if let Ok(key) = variable.to_ascii_lowercase().parse::<AmazonS3ConfigKey>()
                && variable.starts_with("AWS_")
            {
                builder = builder.with_config(key, value);
            }
        }
        let retry = RetryConfig { max_retries: 5, retry_timeout: RETRY_MAX, ..RetryConfig::default() };
        let built = builder
            .with_bucket_name(name)
            // What makes a commit of several writers atomic is not a setting.
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(retry)
            .build();
        let root: Arc<dyn ObjectStore> = Arc::new(built.map_err(|source| LocationError::Settings(Box::new(source)))?);
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let text = parts.iter().fold(format!("s3://{name}/"), |url, part| format!("{url}{part}/"));
        let reason = "write s3://bucket/prefix";
        let url = Url::parse(&text).map_err(|_| LocationError::Invalid { url: text, reason })?;
        let store: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(Arc::clone(&root), parts.join("/")));
        Ok(Self(Kind::Bucket(Arc::new(Bucket { name: name.to_owned(), url, root, store }))))
    }

    /// The folder, if it is one.
    pub fn folder(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Folder(dir) => Some(dir),
            Kind::Bucket(_) => None,
        }
    }

    /// The same place, made if it is a folder, and named as the file system does.
    pub(crate) fn made(self) -> Result<Self, LakeError> {
        let Some(dir) = self.folder() else { return Ok(self) };
        let io = |source| LakeError::Io { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        Ok(Self(Kind::Folder(dir.canonicalize().map_err(io)?)))
    }

    pub(crate) fn table(&self, name: &str) -> TablePlace {
        TablePlace { location: self.clone(), name: name.to_owned() }
    }

    /// Asks a bucket whether it can hold a lake: a file is created, must not be created twice, and is deleted. A
    /// folder is not asked.
    pub async fn probe(&self) -> Result<Probed, LocationError> {
        let Kind::Bucket(bucket) = &self.0 else { return Ok(Probed::default()) };
        let path = StorePath::from(format!("probe-{}", uuid::Uuid::new_v4()));
        let created = bucket.create(&path).await.map_err(|source| bucket.failure(source))?;
        let again = bucket.create(&path).await;
        bucket.store.delete(&path).await.map_err(|source| bucket.failure(source))?;
        match again {
            Err(StoreError::AlreadyExists { .. }) => {}
            Ok(_) => return Err(LocationError::Overwrites { bucket: bucket.name.clone() }),
            Err(source) => return Err(bucket.failure(source)),
        }
        // A store that no longer keeps versions names the one there is "null".
        Ok(Probed { keeps_versions: created.version.is_some_and(|version| version != "null") })
    }

    /// Whether there is nothing at all.
    pub async fn is_empty(&self) -> Result<bool, LocationError> {
        match &self.0 {
            Kind::Folder(dir) => match std::fs::read_dir(dir) {
                Ok(mut entries) => Ok(entries.next().is_none()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
                Err(error) => Err(file_failure(&dir.to_string_lossy(), error)),
            },
            Kind::Bucket(bucket) => match bucket.store.list(None).next().await {
                None => Ok(true),
                Some(Ok(_)) => Ok(false),
                Some(Err(source)) => Err(bucket.failure(source)),
            },
        }
    }

    /// Paths of all files of a bucket's lake.
    pub(crate) async fn paths(&self) -> Result<Vec<String>, LocationError> {
        self.paths_below("").await
    }

    /// Paths of the files of a bucket's lake below a folder of it.
    pub(crate) async fn paths_below(&self, folder: &str) -> Result<Vec<String>, LocationError> {
        let Kind::Bucket(bucket) = &self.0 else { return Ok(Vec::new()) };
        let listed = bucket.store.list(Some(&StorePath::from(folder)));
        let paths: Result<Vec<String>, StoreError> =
            listed.map_ok(|found| found.location.to_string()).try_collect().await;
        paths.map_err(|source| bucket.failure(source))
    }

    /// A file of the lake; `None` if it is not there.
    pub(crate) async fn read(&self, path: &str) -> Result<Option<Bytes>, LocationError> {
        match &self.0 {
            Kind::Folder(dir) => match tokio::fs::read(dir.join(path)).await {
                Ok(content) => Ok(Some(Bytes::from(content))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(file_failure(path, error)),
            },
            Kind::Bucket(bucket) => match bucket.store.get(&StorePath::from(path)).await {
                Ok(found) => found.bytes().await.map(Some).map_err(|source| file_failure(path, source)),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(source) => Err(file_failure(path, source)),
            },
        }
    }

    /// Writes a small file of the lake, in the place of what is there. Whoever reads sees it whole; not synced.
    pub(crate) async fn replace(&self, path: &str, text: String) -> Result<(), LocationError> {
        match &self.0 {
            Kind::Folder(dir) => {
                let draft = dir.join(format!("{path}.draft"));
                let failure = |source: std::io::Error| file_failure(path, source);
                tokio::fs::write(&draft, text).await.map_err(failure)?;
                tokio::fs::rename(&draft, dir.join(path)).await.map_err(failure)
            }
            Kind::Bucket(bucket) => {
                let stored = bucket.store.put(&StorePath::from(path), PutPayload::from(text)).await;
                stored.map(drop).map_err(|source| file_failure(path, source))
            }
        }
    }

    /// Writes a file of the lake to the same path below the folder `to`. Not synced.
    pub async fn fetch(&self, path: &str, to: &Path) -> Result<(), LocationError> {
        let Some(content) = self.read(path).await? else {
            return Err(file_failure(path, std::io::Error::from(std::io::ErrorKind::NotFound)));
        };
        write_file(to.join(path), content).await.map_err(|source| file_failure(path, source))
    }

    /// Leaves a note for all who use the lake, durable; `false` if there is one of that name, which stays.
    pub async fn note(&self, name: &str, text: &str) -> Result<bool, LakeError> {
        let path = format!("{NOTES}/{name}");
        match &self.0 {
            Kind::Folder(dir) => {
                let failure = |source: std::io::Error| file_failure(&path, source);
                let draft = draft_of_note(dir, text).await.map_err(failure)?;
                // Named by a link, which fails where there is one: whoever finds the note reads it whole.
                let linked = tokio::fs::hard_link(&draft, dir.join(&path)).await;
                tokio::fs::remove_file(&draft).await.map_err(failure)?;
                match linked {
                    Ok(()) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
                    Err(error) => return Err(failure(error).into()),
                }
                durable::sync(dir.clone(), vec![path]).await?;
                Ok(true)
            }
            Kind::Bucket(bucket) => {
                let payload = PutPayload::from(text.to_owned());
                match bucket.store.put_opts(&StorePath::from(path.as_str()), payload, creating()).await {
                    Ok(_) => Ok(true),
                    Err(StoreError::AlreadyExists { .. }) => Ok(false),
                    Err(source) => Err(file_failure(&path, source).into()),
                }
            }
        }
    }

    /// Leaves a note in the place of any that has its name. Not synced: for what matters only while those who wrote
    /// it run.
    pub async fn put_note(&self, name: &str, text: &str) -> Result<(), LocationError> {
        let path = format!("{NOTES}/{name}");
        match &self.0 {
            Kind::Folder(dir) => {
                let failure = |source: std::io::Error| file_failure(&path, source);
                let draft = draft_of_note(dir, text).await.map_err(failure)?;
                tokio::fs::rename(&draft, dir.join(&path)).await.map_err(failure)
            }
            Kind::Bucket(bucket) => {
                let payload = PutPayload::from(text.to_owned());
                let put = bucket.store.put(&StorePath::from(path.as_str()), payload).await;
                put.map(drop).map_err(|source| file_failure(&path, source))
            }
        }
    }

    /// A note; `None` if there is none of that name.
    pub async fn read_note(&self, name: &str) -> Result<Option<String>, LocationError> {
        let text = self.read(&format!("{NOTES}/{name}")).await?;
        Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    /// All notes by their names.
    pub async fn notes(&self) -> Result<BTreeMap<String, String>, LocationError> {
        let mut names = Vec::new();
        match &self.0 {
            Kind::Folder(dir) if dir.join(NOTES).is_dir() => {
                files_below(&dir.join(NOTES), "", &mut names).map_err(|source| file_failure(NOTES, source))?;
            }
            Kind::Folder(_) => {}
            Kind::Bucket(_) => {
                let paths = self.paths_below(NOTES).await?;
                names.extend(paths.iter().filter_map(|path| Some(path.rsplit_once('/')?.1.to_owned())));
            }
        }
        let mut notes = BTreeMap::new();
        for name in names.into_iter().filter(|name| !name.starts_with(DRAFT)) {
            // One that went meanwhile says nothing any more.
            if let Some(text) = self.read_note(&name).await? {
                notes.insert(name, text);
            }
        }
        Ok(notes)
    }

    /// Takes a note away, if it is there.
    pub async fn remove_note(&self, name: &str) -> Result<(), LocationError> {
        let path = format!("{NOTES}/{name}");
        match &self.0 {
            Kind::Folder(dir) => match tokio::fs::remove_file(dir.join(&path)).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file_failure(&path, error)),
                _ => Ok(()),
            },
            Kind::Bucket(bucket) => match bucket.store.delete(&StorePath::from(path.as_str())).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
                Err(source) => Err(file_failure(&path, source)),
            },
        }
    }

    /// Copies the lake in the folder `from` to this place, durable, the logs last and in their order: until then there
    /// is no table to be seen. In a bucket nothing is written over.
    pub async fn store_folder(&self, from: &Path) -> Result<(), LakeError> {
        let mut paths = Vec::new();
        files_below(from, "", &mut paths).map_err(|source| file_failure(&from.to_string_lossy(), source))?;
        paths.sort_by_key(|path| (path.split('/').any(|part| part == LOG), path.clone()));
        for path in &paths {
            let content = tokio::fs::read(from.join(path)).await.map_err(|source| file_failure(path, source))?;
            match &self.0 {
                Kind::Folder(dir) => {
                    let written = write_file(dir.join(path), Bytes::from(content)).await;
                    written.map_err(|source| file_failure(path, source))?;
                }
                Kind::Bucket(bucket) => {
                    let payload = PutPayload::from(content);
                    let stored = bucket.store.put_opts(&StorePath::from(path.as_str()), payload, creating()).await;
                    stored.map_err(|source| file_failure(path, source))?;
                }
            }
        }
        match self.folder() {
            Some(dir) => durable::sync(dir.to_owned(), paths).await,
            None => Ok(()),
        }
    }
}

/// Writes a note of a folder's lake without its name.
async fn draft_of_note(dir: &Path, text: &str) -> std::io::Result<PathBuf> {
    let draft = dir.join(NOTES).join(format!("{DRAFT}{}", uuid::Uuid::new_v4()));
    write_file(draft.clone(), Bytes::from(text.to_owned())).await?;
    Ok(draft)
}

fn creating() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

fn file_failure(path: &str, source: impl std::error::Error + Send + Sync + 'static) -> LocationError {
    LocationError::File { path: path.to_owned(), source: Box::new(source) }
}

/// Paths of all files below a folder, divided by `/`.
fn files_below(root: &Path, below: &str, found: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.file_type()?.is_dir() {
            files_below(root, &path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

pub(crate) async fn write_file(path: PathBuf, content: Bytes) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    tokio::fs::write(path, content).await
}

impl Bucket {
    async fn create(&self, path: &StorePath) -> Result<object_store::PutResult, StoreError> {
        self.store.put_opts(path, PutPayload::from_static(b"todoke"), creating()).await
    }

    /// What a request to the bucket as such failed of.
    fn failure(&self, source: StoreError) -> LocationError {
        let (bucket, source) = (self.name.clone(), Box::new(source));
        match *source {
            StoreError::NotFound { .. } => LocationError::NoBucket { bucket, source },
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                LocationError::Refused { bucket, source }
            }
            _ => LocationError::Away { bucket, source },
        }
    }
}

/// Where a table of a lake lies.
#[derive(Clone, Debug)]
pub(crate) struct TablePlace {
    location: LakeLocation,
    name: String,
}

impl TablePlace {
    /// The folder of this machine that holds it, if one does.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        self.location.folder().map(|dir| dir.join(&self.name))
    }

    /// The table, not looked at yet. A folder is made.
    pub(crate) fn delta(&self) -> Result<DeltaTable, DeltaTableError> {
        match &self.location.0 {
            Kind::Folder(dir) => {
                let url = ensure_table_uri(dir.join(&self.name).to_string_lossy())?;
                DeltaTableBuilder::from_url(url)?.build()
            }
            Kind::Bucket(bucket) => {
                let mut url = bucket.url.clone();
                url.set_path(&format!("{}{}/", bucket.url.path(), self.name));
                let store: Arc<dyn ObjectStore> =
                    Arc::new(PrefixStore::new(Arc::clone(&bucket.store), self.name.as_str()));
                // The library's own log store: an entry is put where none is, or the commit fails.
                let log = default_logstore(store, Arc::clone(&bucket.root), &url, &StorageConfig::default());
                Ok(DeltaTable::new(log))
            }
        }
    }

    /// Whether somebody began a table here.
    pub(crate) async fn has_log(&self) -> Result<bool, DeltaTableError> {
        match &self.location.0 {
            Kind::Folder(dir) => Ok(dir.join(&self.name).join(LOG).is_dir()),
            Kind::Bucket(bucket) => {
                let log = StorePath::from(format!("{}/{LOG}", self.name));
                Ok(bucket.store.list(Some(&log)).next().await.transpose()?.is_some())
            }
        }
    }

    /// Makes files durable. What an object store has answered is so already.
    pub(crate) async fn sync(&self, files: Vec<String>) -> Result<(), LakeError> {
        match self.folder() {
            Some(root) => durable::sync(root, files).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<LakeLocation, LocationError> {
        let variables = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "geheim"), ("AWS_PAGER", "less")];
        LakeLocation::parse(url, variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn a_place_is_a_folder_or_a_bucket_with_a_prefix() {
        assert_eq!(parse("file:///var/lake").unwrap().folder(), Some(Path::new("/var/lake")));
        for (url, shown) in [
            ("s3://city", "s3://city/"),
            ("s3://city/", "s3://city/"),
            ("s3://city/todoke/lake", "s3://city/todoke/lake/"),
            ("s3://city//todoke//", "s3://city/todoke/"),
        ] {
            let place = parse(url).unwrap();
            assert_eq!((place.to_string().as_str(), place.folder()), (shown, None));
        }
    }

    #[test]
    fn what_is_no_place_is_refused_without_showing_secrets() {
        for url in ["lake", "gs://city/lake", "s3:///lake", "s3://city/a b", "s3://city/lake?region=x", "file://host/x"]
        {
            assert!(matches!(parse(url), Err(LocationError::Invalid { .. })), "{url}");
        }
        let refused = parse("s3://id:geheim@city/lake").unwrap_err().to_string();
        assert!(!refused.contains("geheim"), "{refused}");
        assert!(!format!("{:?}", parse("s3://city").unwrap()).contains("geheim"));
    }

    #[test]
    fn tables_lie_below_the_prefix() {
        let table = parse("s3://city/todoke").unwrap().table("coupon").delta().unwrap();
        assert_eq!(table.log_store().root_url().as_str(), "s3://city/todoke/coupon/");
        assert_eq!(table.log_store().name(), "DefaultLogStore");
    }
}
