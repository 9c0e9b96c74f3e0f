"""Which fields Kubernetes' own kinds have, as far as replicas are made of them, and of which type. Data, no rule.

Written from the API reference of Kubernetes 1.25 to 1.36, every version's fields together: what is unknown here is
known to none of them. `?` is anything, and what hangs below it is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

_TYPES = {"s": "text", "i": "integer", "b": "boolean", "q": "quantity", "p": "port", "m": "texts by name",
          "mq": "quantities by name", "l": "list of text", "?": "anything"}  # fmt: skip
"""The short forms below: a name in capitals is a shape, one in brackets a list of it."""

_TEXT = """
PodTemplate metadata=Metadata spec=PodSpec apiVersion=s kind=s
Metadata name=s generateName=s namespace=s labels=m annotations=m finalizers=l ownerReferences=? creationTimestamp=?
 uid=s resourceVersion=s generation=i managedFields=? selfLink=s deletionTimestamp=? deletionGracePeriodSeconds=i
PodSpec containers=[Container] initContainers=[Container] ephemeralContainers=? volumes=[Volume] nodeSelector=m
 nodeName=s
 tolerations=[Toleration] affinity=Affinity topologySpreadConstraints=[Spread] securityContext=PodSecurity
 serviceAccountName=s serviceAccount=s automountServiceAccountToken=b restartPolicy=s terminationGracePeriodSeconds=i
 activeDeadlineSeconds=i dnsPolicy=s dnsConfig=? hostNetwork=b hostPID=b hostIPC=b hostUsers=b hostname=s subdomain=s
 hostAliases=? imagePullSecrets=[Named] priorityClassName=s priority=i preemptionPolicy=s schedulerName=s
 runtimeClassName=s enableServiceLinks=b shareProcessNamespace=b setHostnameAsFQDN=b readinessGates=? overhead=mq os=?
 schedulingGates=? resourceClaims=? resources=Resources hostnameOverride=s workloadRef=? schedulingGroup=?
Named name=s
Container name=s image=s imagePullPolicy=s command=l args=l workingDir=s ports=[ContainerPort] env=[Env]
 envFrom=[EnvFrom]
 resources=Resources resizePolicy=? volumeMounts=[Mount] volumeDevices=? livenessProbe=Probe readinessProbe=Probe
 startupProbe=Probe lifecycle=Lifecycle terminationMessagePath=s terminationMessagePolicy=s securityContext=Security
 stdin=b stdinOnce=b tty=b restartPolicy=s restartPolicyRules=?
ContainerPort name=s containerPort=i hostPort=i hostIP=s protocol=s
Env name=s value=s valueFrom=EnvSource
EnvSource fieldRef=FieldRef resourceFieldRef=? configMapKeyRef=KeyRef secretKeyRef=KeyRef fileKeyRef=?
FieldRef fieldPath=s apiVersion=s
KeyRef name=s key=s optional=b
EnvFrom prefix=s configMapRef=Ref secretRef=Ref
Ref name=s optional=b
Resources limits=mq requests=mq claims=?
Mount name=s mountPath=s subPath=s subPathExpr=s readOnly=b recursiveReadOnly=s mountPropagation=s
Probe httpGet=HttpGet exec=Exec tcpSocket=Tcp grpc=? initialDelaySeconds=i periodSeconds=i timeoutSeconds=i
 successThreshold=i failureThreshold=i terminationGracePeriodSeconds=i
HttpGet path=s port=p host=s scheme=s httpHeaders=[Header]
Header name=s value=s
Exec command=l
Tcp port=p host=s
Lifecycle preStop=Hook postStart=Hook stopSignal=s
Hook exec=Exec httpGet=HttpGet tcpSocket=Tcp sleep=Sleep
Sleep seconds=i
Security privileged=b allowPrivilegeEscalation=b readOnlyRootFilesystem=b runAsUser=i runAsGroup=i runAsNonRoot=b
 capabilities=Capabilities procMount=s seccompProfile=Profile seLinuxOptions=? windowsOptions=? appArmorProfile=?
Capabilities add=l drop=l
Profile type=s localhostProfile=s
PodSecurity runAsUser=i runAsGroup=i runAsNonRoot=b fsGroup=i fsGroupChangePolicy=s supplementalGroups=?
 supplementalGroupsPolicy=s seccompProfile=Profile seLinuxOptions=? seLinuxChangePolicy=s windowsOptions=? sysctls=?
 appArmorProfile=?
Toleration key=s operator=s value=s effect=s tolerationSeconds=i
Affinity nodeAffinity=NodeAffinity podAffinity=PodAffinity podAntiAffinity=PodAffinity
NodeAffinity requiredDuringSchedulingIgnoredDuringExecution=NodeTerms
 preferredDuringSchedulingIgnoredDuringExecution=[NodeWish]
NodeTerms nodeSelectorTerms=[NodeTerm]
NodeTerm matchExpressions=[Expression] matchFields=[Expression]
NodeWish weight=i preference=NodeTerm
PodAffinity requiredDuringSchedulingIgnoredDuringExecution=[PodTerm]
 preferredDuringSchedulingIgnoredDuringExecution=[PodWish]
PodTerm labelSelector=Selector topologyKey=s namespaces=l namespaceSelector=Selector
 matchLabelKeys=l mismatchLabelKeys=l
PodWish weight=i podAffinityTerm=PodTerm
Selector matchLabels=m matchExpressions=[Expression]
Expression key=s operator=s values=l
Spread maxSkew=i topologyKey=s whenUnsatisfiable=s labelSelector=Selector minDomains=i nodeAffinityPolicy=s
 nodeTaintsPolicy=s matchLabelKeys=l
Volume name=s emptyDir=EmptyDir hostPath=HostPath persistentVolumeClaim=ClaimSource configMap=ConfigMapSource
 secret=SecretSource ephemeral=? projected=? csi=? image=ImageSource nfs=NfsSource downwardAPI=? gcePersistentDisk=?
 awsElasticBlockStore=? azureDisk=? azureFile=? cephfs=? cinder=? fc=? flexVolume=? flocker=? gitRepo=? glusterfs=?
 iscsi=? photonPersistentDisk=? portworxVolume=? quobyte=? rbd=? scaleIO=? storageos=? vsphereVolume=?
EmptyDir medium=s sizeLimit=q
HostPath path=s type=s
ClaimSource claimName=s readOnly=b
ConfigMapSource name=s items=[KeyPath] defaultMode=i optional=b
SecretSource secretName=s items=[KeyPath] defaultMode=i optional=b
KeyPath key=s path=s mode=i
ImageSource reference=s pullPolicy=s
NfsSource server=s path=s readOnly=b
Deployment replicas=i selector=Selector template=PodTemplate strategy=Strategy minReadySeconds=i revisionHistoryLimit=i
 paused=b progressDeadlineSeconds=i
Strategy type=s rollingUpdate=Rolling
Rolling maxSurge=p maxUnavailable=p
StatefulSet replicas=i selector=Selector template=PodTemplate serviceName=s podManagementPolicy=s
 updateStrategy=SetStrategy
 volumeClaimTemplates=? revisionHistoryLimit=i minReadySeconds=i persistentVolumeClaimRetentionPolicy=? ordinals=?
SetStrategy type=s rollingUpdate=SetRolling
SetRolling partition=i maxUnavailable=p maxSurge=p
DaemonSet selector=Selector template=PodTemplate updateStrategy=SetStrategy minReadySeconds=i revisionHistoryLimit=i
Job template=PodTemplate parallelism=i completions=i activeDeadlineSeconds=i backoffLimit=i backoffLimitPerIndex=i
 maxFailedIndexes=i selector=Selector manualSelector=b ttlSecondsAfterFinished=i completionMode=s suspend=b
 podFailurePolicy=? podReplacementPolicy=s managedBy=s successPolicy=?
Service selector=m ports=[ServicePort] type=s clusterIP=s clusterIPs=l externalIPs=l sessionAffinity=s
 sessionAffinityConfig=? loadBalancerIP=s loadBalancerSourceRanges=l loadBalancerClass=s externalName=s
 externalTrafficPolicy=s internalTrafficPolicy=s healthCheckNodePort=i publishNotReadyAddresses=b ipFamilies=l
 ipFamilyPolicy=s allocateLoadBalancerNodePorts=b trafficDistribution=s
ServicePort name=s port=i targetPort=p nodePort=i protocol=s appProtocol=s
PersistentVolumeClaim accessModes=l storageClassName=s resources=Resources volumeName=s volumeMode=s selector=Selector
 dataSource=? dataSourceRef=? volumeAttributesClassName=s
Ingress ingressClassName=s rules=[IngressRule] tls=? defaultBackend=Backend
IngressRule host=s http=IngressHttp
IngressHttp paths=[IngressPath]
IngressPath path=s pathType=s backend=Backend
Backend service=BackendService resource=?
BackendService name=s port=BackendPort
BackendPort name=s number=i
PodDisruptionBudget minAvailable=p maxUnavailable=p selector=Selector unhealthyPodEvictionPolicy=s
"""
_KINDS = {
    "Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "Job": "batch/v1", "Service": "v1",
    "PersistentVolumeClaim": "v1", "PodDisruptionBudget": "policy/v1", "Pod": "v1",
    "Ingress": "networking.k8s.io/v1",
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """What a field holds: `shape` is the name of a shape, or `kind` one of the simple types; `many` a list of it."""

    kind: str
    shape: str = ""
    many: bool = False


def _read() -> dict[str, dict[str, Field]]:
    shapes: dict[str, dict[str, Field]] = {}
    for line in _TEXT.strip().replace("\n ", " ").splitlines():
        name, *fields = line.split()
        shapes[name] = dict(_field(f) for f in fields)
    return shapes


def _field(text: str) -> tuple[str, Field]:
    name, _, what = text.partition("=")
    if what in _TYPES:
        return name, Field(_TYPES[what])
    many = what.startswith("[")
    return name, Field("shape", what.strip("[]"), many)


SHAPES = _read()
"""Shape -> its fields."""


def spec_shape(kind: str, api: str) -> str:
    """The shape of an object's `spec`; empty for kinds that are not told of here."""
    if _KINDS.get(kind) != api:
        return ""
    return "PodSpec" if kind == "Pod" else kind


def homes(field: str) -> list[str]:
    """The shapes that have a field of that name."""
    return [shape for shape, fields in SHAPES.items() if field in fields]
