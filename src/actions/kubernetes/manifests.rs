//! Rendered manifests, read from a file or a folder.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::clients::Failure;

/// The most objects: each look asks twice for each of them, within ten seconds and the rate limit.
const MOST_OBJECTS: usize = 80;

/// The most bytes of all files together.
const MOST_BYTES: u64 = 4 << 20;

/// What kustomize builds from.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// What the server writes, and must not be sent.
const SERVERS_OWN: [&str; 5] = ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation"];

/// One object to apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Its file and document, for people.
    pub from: String,
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Where it says that it belongs.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// All of it.
    pub object: Value,
}

impl Manifest {
    /// What others need comes first.
    fn rank(&self) -> u8 {
        match self.kind.as_str() {
            "Namespace" => 0,
            "CustomResourceDefinition" => 1,
            _ => 2,
        }
    }

    /// The group and kind that it brings, where it is a CustomResourceDefinition.
    pub fn defines(&self) -> Option<(&str, &str)> {
        let text = |pointer: &str| self.object.pointer(pointer).and_then(Value::as_str);
        if self.kind == "CustomResourceDefinition" {
            return text("/spec/group").zip(text("/spec/names/kind"));
        }
        None
    }
}

impl std::fmt::Display for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        write!(f, "{} {place}{} ({})", self.kind, self.name, self.from)
    }
}

/// Reads all manifests, in the order in which they are applied.
///
/// # Errors
/// What is wrong, with the file and the document; never a line of it, which may hold a secret.
pub fn load(path: &Path) -> Result<Vec<Manifest>, Failure> {
    let mut left = MOST_BYTES;
    let mut all = Vec::new();
    for file in files(path)? {
        let text = read(&file, &mut left)?;
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        parse(&name, &text, &mut all)?;
    }
    if all.is_empty() {
        return Err(Failure::refused(format!("{} holds no manifest", path.display())));
    }
    if all.len() > MOST_OBJECTS {
        let reason = format!(
            "{} holds {} objects, at most {MOST_OBJECTS} are applied in one step: take it apart",
            path.display(),
            all.len()
        );
        return Err(Failure::refused(reason));
    }
    for (index, manifest) in all.iter().enumerate() {
        let same = |other: &&Manifest| {
            (&other.api_version, &other.kind, &other.namespace, &other.name)
                == (&manifest.api_version, &manifest.kind, &manifest.namespace, &manifest.name)
        };
        if let Some(first) = all[..index].iter().find(same) {
            return Err(Failure::refused(format!("{manifest} is there twice, first as {first}")));
        }
    }
    // Stable: within a rank the order of the files stays.
    all.sort_by_key(Manifest::rank);
    Ok(all)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: std::io::Error| Failure::refused(format!("cannot read {}: {error}", path.display()));
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    if KUSTOMIZATIONS.iter().any(|name| path.join(name).exists()) {
        let folder = path.display();
        return Err(Failure::refused(format!(
            "{folder} holds a kustomization, which is not rendered here; render it beforehand and name the result: kubectl kustomize {folder} > rendered.yaml"
        )));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let known = file.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
        if known && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path, left: &mut u64) -> Result<String, Failure> {
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|open| open.take(*left + 1).read_to_string(&mut text))
        .map_err(|error| Failure::refused(format!("cannot read {}: {error}", file.display())))?;
    let read = u64::try_from(text.len()).unwrap_or(u64::MAX);
    *left = left
        .checked_sub(read)
        .ok_or_else(|| Failure::refused(format!("{}: the manifests have more than 4 MiB", file.display())))?;
    Ok(text)
}

/// A line that begins a document: only there may `---` stand at the beginning of a line.
fn begins(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Adds the manifests of a file. Each document is read by itself, so that an error names it.
pub(in crate::actions) fn parse(name: &str, text: &str, all: &mut Vec<Manifest>) -> Result<(), Failure> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if begins(line) {
            documents.push(String::new());
        }
        if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let mut number = 0;
    for document in documents {
        let says =
            |line: &str| !(line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim_end() == "---");
        if !document.lines().any(says) {
            continue;
        }
        number += 1;
        let from = format!("{name}, document {number}");
        // As Kubernetes itself reads YAML: a mode of 0644 is octal.
        let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
        let value: Value = serde_saphyr::from_str_with_options(&document, options).map_err(|error| {
            let place = error.location().map(|at| format!(" at its line {}", at.line())).unwrap_or_default();
            Failure::refused(format!("{from} is no valid YAML{place}"))
        })?;
        match value.get("items").and_then(Value::as_array) {
            Some(items) if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
                for (index, item) in items.iter().enumerate() {
                    all.push(manifest(format!("{from}, item {}", index + 1), item.clone())?);
                }
            }
            _ if value.is_null() => {}
            _ => all.push(manifest(from, value)?),
        }
    }
    Ok(())
}

fn manifest(from: String, mut object: Value) -> Result<Manifest, Failure> {
    let text = |pointer: &str| {
        let found = object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        found
            .map(str::to_owned)
            .ok_or_else(|| Failure::refused(format!("{from} has no {}", pointer.replace('/', " ").trim())))
    };
    let (api_version, kind, name) = (text("/apiVersion")?, text("/kind")?, text("/metadata/name")?);
    let namespace = text("/metadata/namespace").ok();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        SERVERS_OWN.iter().for_each(|key| drop(metadata.remove(*key)));
    }
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    Ok(Manifest { from, api_version, kind, namespace, name, object })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    const APP: &str =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop, uid: x}\ndata: {m: \"0644\"}\n";

    #[test]
    fn what_others_need_comes_first() {
        let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: c}\nspec: {group: g, names: {kind: K}}\n";
        let list = "# of a tool\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n- {apiVersion: v1, kind: Secret, metadata: {name: s}, mode: 0644}\n---\n# nothing\n";
        let folder =
            folder(&[("1.yaml", APP), ("2.yml", &format!("---\n{crd}")), ("3.json", list), ("readme.md", "no")]);
        let all = load(folder.path()).expect("well");
        let names: Vec<_> = all.iter().map(|manifest| manifest.name.as_str()).collect();
        assert_eq!(names, ["shop", "c", "a", "s"]);
        assert_eq!(all[1].defines(), Some(("g", "K")));
        assert_eq!(all[2].object["metadata"], serde_json::json!({ "name": "a", "namespace": "shop" }));
        assert_eq!((&all[2].object["data"]["m"], &all[3].object["mode"]), (&"0644".into(), &420.into()));
        assert_eq!(all[0].from, "3.json, document 1, item 1");
    }

    #[test]
    fn what_is_wrong_names_the_file_and_the_document_and_shows_nothing_of_it() {
        let canary = "canary-9fQx27";
        for (files, expected) in [
            (
                vec![("a.yaml", format!("{APP}---\nkind: [{canary}\n"))],
                "a.yaml, document 2 is no valid YAML at its line",
            ),
            (vec![("a.yaml", format!("{APP}---\na: 1\na: {canary}\n"))], "a.yaml, document 2 is no valid YAML"),
            (vec![("a.yaml", "kind: X\nmetadata: {name: a}\n".to_owned())], "document 1 has no apiVersion"),
            (vec![("a.yaml", "apiVersion: v1\nkind: X\nmetadata: {generateName: a}\n".to_owned())], "no metadata name"),
            (vec![("a.yaml", APP.to_owned()), ("b.yaml", APP.to_owned())], "is there twice"),
            (vec![("a.txt", APP.to_owned())], "holds no manifest"),
            (vec![("kustomization.yaml", String::new())], "kubectl kustomize"),
            (vec![("a.yaml", "#".repeat(5 << 20))], "more than 4 MiB"),
            (
                vec![(
                    "a.yaml",
                    (0..81).map(|n| format!("---\n{}", APP.replace("name: a", &format!("name: a{n}")))).collect(),
                )],
                "at most 80",
            ),
        ] {
            let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
            let failure = load(folder(&files).path()).expect_err(expected);
            assert!(failure.reason.contains(expected), "{failure}");
            assert!(!failure.reason.contains(canary), "{failure}");
        }
        assert!(load(Path::new("/nonexistent")).is_err());
    }
}
