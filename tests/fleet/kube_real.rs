//! A real Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager on loopback.
//!
//! There is no kubelet and no scheduler. [`Kubelet`] stands in for both: it marks each new pod Running and Ready
//! through the status subresource, and the real controllers do the rest, so rollouts and readyReplicas are real.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::kube::{ADMIN, BACKUP_CONTEXT, Background, READER, READER_RULES, client, write_kubeconfig};

/// How often a state that we wait for is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Twenty times what is usual, for a machine that compiles meanwhile.
const START_WITHIN: Duration = Duration::from_secs(90);
/// What our folders are called, before the number of the process that they belong to.
const FOLDER: &str = "failoverd-kubernetes-";

/// A running control plane; killed when dropped, and when this process dies.
pub struct KubeReal {
    kubeconfig: PathBuf,
    url: String,
    ready_delay: Arc<AtomicU64>,
    _background: Background,
}

impl KubeReal {
    /// Starts the control plane and waits until it serves.
    ///
    /// Fails where the binaries are not at hand, with what to do about it; it never builds them.
    pub async fn start() -> Result<Self> {
        let ready_delay = Arc::new(AtomicU64::new(0));
        let delay = Arc::clone(&ready_delay);
        let (background, (kubeconfig, url)) =
            Background::start("kubernetes", move |report, stopped| run(delay, report, stopped)).await?;
        Ok(Self { kubeconfig, url, ready_delay, _background: background })
    }

    /// The kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where the API server listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How long a new pod takes until it is ready.
    pub fn set_ready_delay(&self, delay: Duration) {
        self.ready_delay.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The life of the background thread: start, report, play kubelet until stopped, kill.
async fn run(
    delay: Arc<AtomicU64>,
    report: oneshot::Sender<Result<(PathBuf, String)>>,
    mut stopped: oneshot::Receiver<()>,
) {
    let started = tokio::select! {
        started = start_with_retry() => started,
        _ = &mut stopped => return,
    };
    let mut plane = match started {
        Ok(plane) => plane,
        Err(why) => {
            let _ = report.send(Err(why));
            return;
        }
    };
    let mut kubelet = Kubelet { pods: Api::all(plane.client.clone()), first_seen: HashMap::new(), delay };
    let _ = report.send(Ok((plane.kubeconfig.clone(), plane.url.clone())));
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            () = tokio::time::sleep(POLL) => {}
        }
        if let Err(why) = plane.alive() {
            eprintln!("{why:#}");
            return;
        }
        // An error here is the API server being busy or on its way out: the next look will tell.
        let _ = kubelet.look().await;
    }
}

struct ControlPlane {
    kubeconfig: PathBuf,
    url: String,
    client: Client,
    // In this order: the children must be gone before their folder is.
    children: Vec<Process>,
    _folder: TempDir,
}

impl ControlPlane {
    fn alive(&mut self) -> Result<()> {
        self.children.iter_mut().try_for_each(Process::alive)
    }
}

async fn start_with_retry() -> Result<ControlPlane> {
    let binaries = binaries()?;
    sweep(&std::env::temp_dir());
    let mut attempts = 3;
    loop {
        attempts -= 1;
        match start(&binaries).await {
            // Somebody took one of the ports between our look and the child's bind.
            Err(why) if attempts > 0 && format!("{why:#}").contains("address already in use") => {}
            result => return result,
        }
    }
}

/// Removes what killed processes left behind: etcd alone allocates 120 MB.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(FOLDER)).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The folder with the binaries.
fn binaries() -> Result<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fleet/kubernetes.sh");
    let output = Command::new(script).arg("--cached").output().with_context(|| format!("running {script}"))?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

async fn start(binaries: &Path) -> Result<ControlPlane> {
    let folder = TempDir::with_prefix(format!("{FOLDER}{}-", std::process::id()))?;
    let path = folder.path();
    let [etcd_port, peer_port, api_port] = free_ports()?;
    let url = format!("https://127.0.0.1:{api_port}");
    write_credentials(path)?;
    let kubeconfig = write_kubeconfig(path, &url, Some(&path.join("ca.crt")))?;
    let mut children = vec![
        Process::start(path, &binaries.join("etcd"), &etcd_arguments(etcd_port, peer_port))?,
        Process::start(path, &binaries.join("kube-apiserver"), &api_arguments(etcd_port, api_port))?,
    ];
    let client = client(&kubeconfig, BACKUP_CONTEXT).await?;
    wait_until_serving(&client, &mut children).await?;
    let controllers = binaries.join("kube-controller-manager");
    children.push(Process::start(path, &controllers, &controller_arguments(&controllers)?)?);
    grant_reading(&client).await?;
    Ok(ControlPlane { kubeconfig, url, client, children, _folder: folder })
}

/// Ports that were free a moment ago; all held at once, so that they differ.
fn free_ports() -> Result<[u16; 3]> {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(held) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}

fn etcd_arguments(client: u16, peer: u16) -> Vec<String> {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    [
        "--data-dir=etcd-data",
        // What it holds is worth nothing after the test.
        "--unsafe-no-fsync",
        "--logger=zap",
        &format!("--listen-client-urls={client}"),
        &format!("--advertise-client-urls={client}"),
        &format!("--listen-peer-urls={peer}"),
        &format!("--initial-advertise-peer-urls={peer}"),
        &format!("--initial-cluster=default={peer}"),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Only flags that 1.20 and today's versions share: `KUBEBUILDER_ASSETS` may name either.
fn api_arguments(etcd_port: u16, port: u16) -> Vec<String> {
    [
        &format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        "--bind-address=127.0.0.1",
        &format!("--secure-port={port}"),
        "--tls-cert-file=server.crt",
        "--tls-private-key-file=server.key",
        "--cert-dir=apiserver",
        "--token-auth-file=tokens.csv",
        "--authorization-mode=RBAC",
        // No controller makes service accounts here, and a pod without one would be refused.
        "--disable-admission-plugins=ServiceAccount",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=service-account.pub",
        "--service-account-signing-key-file=service-account.key",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--endpoint-reconciler-type=none",
        "--profiling=false",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn controller_arguments(binary: &Path) -> Result<Vec<String>> {
    let mut arguments = [
        "--kubeconfig=kubeconfig",
        "--controllers=deployment,replicaset,namespace,garbagecollector,job",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=500",
        "--kube-api-burst=500",
    ]
    .map(str::to_owned)
    .to_vec();
    let version = Command::new(binary).arg("--version").output()?;
    let version = String::from_utf8(version.stdout)?;
    let minor = version.trim().strip_prefix("Kubernetes v1.").and_then(|rest| rest.split('.').next());
    let minor: u32 = minor.and_then(|minor| minor.parse().ok()).with_context(|| format!("odd version {version:?}"))?;
    if minor < 24 {
        // The plain HTTP port, on by default at 10252 then, and gone with its flag since.
        arguments.push("--port=0".to_owned());
    }
    Ok(arguments)
}

/// Certificates, keys and tokens, under the names that the arguments above use.
fn write_credentials(folder: &Path) -> Result<()> {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
    let mut params = CertificateParams::new(vec![])?;
    params.distinguished_name.push(DnType::CommonName, "failoverd tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let server_key = KeyPair::generate()?;
    let server =
        CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?.signed_by(&server_key, &ca)?;
    let accounts = KeyPair::generate()?;
    let mut tokens = format!("{},{},1,system:masters\n", ADMIN.1, ADMIN.0);
    tokens += &format!("{},{},2\n", READER.1, READER.0);
    for (name, content) in [
        ("ca.crt", ca.pem()),
        ("server.crt", server.pem()),
        ("server.key", server_key.serialize_pem()),
        ("service-account.key", accounts.serialize_pem()),
        ("service-account.pub", accounts.public_key_pem()),
        ("tokens.csv", tokens),
    ] {
        fs::write(folder.join(name), content).with_context(|| format!("writing {name}"))?;
    }
    Ok(())
}

async fn wait_until_serving(client: &Client, children: &mut [Process]) -> Result<()> {
    let deadline = Instant::now() + START_WITHIN;
    loop {
        children.iter_mut().try_for_each(Process::alive)?;
        let request = axum::http::Request::get("/readyz").body(Vec::new())?;
        let why = match client.request_text(request).await {
            Ok(_) => return Ok(()),
            Err(why) => why,
        };
        if Instant::now() >= deadline {
            bail!("the API server is not ready after {START_WITHIN:?}: {why}\n{}", children[1].last_words());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Gives the restricted user its few rights.
async fn grant_reading(client: &Client) -> Result<()> {
    let rules: Vec<Value> = READER_RULES
        .iter()
        .map(|(group, resource, verbs)| json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs }))
        .collect();
    let role: ClusterRole = serde_json::from_value(json!({ "metadata": { "name": READER.0 }, "rules": rules }))?;
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": { "name": READER.0 },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": READER.0 },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": READER.0 }],
    }))?;
    Api::all(client.clone()).create(&PostParams::default(), &role).await?;
    Api::all(client.clone()).create(&PostParams::default(), &binding).await?;
    Ok(())
}

/// Marks pods Running and Ready once they are old enough.
struct Kubelet {
    pods: Api<Pod>,
    first_seen: HashMap<String, Instant>,
    delay: Arc<AtomicU64>,
}

impl Kubelet {
    async fn look(&mut self) -> Result<(), kube::Error> {
        // A pod that no node has taken is deleted at once, without grace: so ours are never given a node.
        let pending = self.pods.list(&ListParams::default().fields("status.phase=Pending")).await?.items;
        let delay = Duration::from_millis(self.delay.load(Ordering::Relaxed));
        let mut seen = HashMap::new();
        for pod in pending {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let since = self.first_seen.get(&uid).copied().unwrap_or_else(Instant::now);
            if since.elapsed() < delay {
                seen.insert(uid, since);
            } else {
                self.mark_ready(&pod).await?;
            }
        }
        self.first_seen = seen;
        Ok(())
    }

    async fn mark_ready(&self, pod: &Pod) -> Result<(), kube::Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.pods.clone().into_client(), namespace);
        let conditions: Vec<Value> = ["Initialized", "PodScheduled", "ContainersReady", "Ready"]
            .iter()
            .map(|kind| json!({ "type": kind, "status": "True" }))
            .collect();
        let status = json!({ "status": { "phase": "Running", "conditions": conditions } });
        match api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await {
            Ok(_) => Ok(()),
            // Deleted between the list and now.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(other) => Err(other),
        }
    }
}

/// A child in a process group of its own, with its output in a file.
struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    fn start(folder: &Path, binary: &Path, arguments: &[String]) -> Result<Self> {
        let name = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut command = Command::new(binary);
        command.args(arguments).current_dir(folder).process_group(0);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // SAFETY: prctl is async-signal-safe and touches nothing of ours.
        unsafe {
            command.pre_exec(|| {
                rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("starting {}", binary.display()))?;
        Ok(Self { name, log, child })
    }

    fn alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(anyhow!("{} ended with {status}; its last words:\n{}", self.name, self.last_words())),
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Once reaped, its number may belong to somebody else.
        if matches!(self.child.try_wait(), Ok(None)) {
            let group = rustix::process::Pid::from_child(&self.child);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
