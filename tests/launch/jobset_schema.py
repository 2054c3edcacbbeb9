"""The part of JobSet's schema that vidpref uses, written down from its definition.

From config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml of kubernetes-sigs/jobset (v1alpha2),
and what its webhook and Kubernetes' validation of Jobs add: no unknown fields, names as DNS labels,
exit codes in order, and a pod that is not restarted in its place where there is a podFailurePolicy.
"""

from typing import Any


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any], least: int = 1, most: int = 1000) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _number(least: int, most: int = 2**31 - 1) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most}


_TEXT = {"type": "string", "minLength": 1}
_LABEL = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
_PATH = {"type": "string", "pattern": "^/"}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_QUANTITY = {"type": ["integer", "string"]}

_RULE = _object(
    "action name",
    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
    action={
        "enum": [
            *("FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"),
            *("RestartJob", "RestartJobAndIgnoreMaxRestarts"),
        ]
    },
    onJobFailureReasons=_list(
        {"enum": ["BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy"]}
    ),
)
_POD_RULE = {
    **_object(
        "action",
        action={"enum": ["FailJob", "FailIndex", "Ignore", "Count"]},
        onExitCodes=_object(
            "operator values",
            containerName=_LABEL,
            operator={"enum": ["In", "NotIn"]},
            values={**_list(_number(1, 255), most=255), "uniqueItems": True},
        ),
        onPodConditions=_list(
            _object("type", type=_TEXT, status={"enum": ["True", "False", "Unknown"]}), most=20
        ),
    ),
    "oneOf": [{"required": ["onExitCodes"]}, {"required": ["onPodConditions"]}],
}
_CONTAINER = _object(
    "name image args resources",
    name=_LABEL,
    image=_TEXT,
    args=_list(_TEXT),
    env=_list(_object("name value", name=_TEXT, value={"type": "string"})),
    envFrom=_list(_object("secretRef", secretRef=_object("name", name=_TEXT))),
    securityContext=_object(runAsUser=_number(0)),
    resources=_object("limits", limits={"type": "object", "additionalProperties": _QUANTITY}),
    volumeMounts=_list(_object("name mountPath", name=_LABEL, mountPath=_PATH)),
)
_POD = _object(
    "containers restartPolicy",
    restartPolicy={"const": "Never"},
    terminationGracePeriodSeconds=_number(0),
    hostNetwork={"type": "boolean"},
    dnsPolicy={"enum": ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]},
    nodeSelector=_TEXTS,
    tolerations=_list(
        _object(
            key=_TEXT,
            operator={"enum": ["Exists", "Equal"]},
            effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
        )
    ),
    containers=_list(_CONTAINER),
    volumes=_list(
        {
            **_object(
                "name",
                name=_LABEL,
                persistentVolumeClaim=_object("claimName", claimName=_TEXT),
                emptyDir=_object(medium={"enum": ["", "Memory"]}),
            ),
            "minProperties": 2,
            "maxProperties": 2,
        }
    ),
)
_JOB = _object(
    "template",
    parallelism=_number(1),
    completions=_number(1),
    completionMode={"enum": ["Indexed", "NonIndexed"]},
    backoffLimit=_number(0),
    podFailurePolicy=_object("rules", rules=_list(_POD_RULE, most=20)),
    template=_object("spec", spec=_POD),
)
JOBSET = _object(
    "apiVersion kind metadata spec",
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=_object("name", name=_LABEL, labels=_TEXTS, annotations=_TEXTS),
    spec=_object(
        "replicatedJobs",
        ttlSecondsAfterFinished=_number(0),
        failurePolicy=_object(maxRestarts=_number(0), rules=_list(_RULE)),
        replicatedJobs=_list(
            _object(
                "name template",
                name=_LABEL,
                replicas=_number(0),
                template=_object("spec", spec=_JOB),
            )
        ),
    ),
)
