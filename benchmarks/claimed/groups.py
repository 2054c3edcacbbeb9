"""All groups of claims by their names, the project's own question first."""

from claimed import aif, feedback, ipo, mcsc, online, realdpo, videoalign
from claimed.claim import Group

GROUPS: dict[str, Group] = {
    "projections": aif.PROJECTIONS,
    "beta": videoalign.BETA,
    "text": videoalign.TEXT,
    "mcdpo": mcsc.MCDPO,
    "still": mcsc.STILL,
    "ipo": ipo.IPO,
    "real": ipo.REAL,
    "realdpo": realdpo.REALDPO_GROUP,
    "nrg": videoalign.NRG,
    "online": online.ONLINE,
    "online_proxy": online.PROXY_PROJECTIONS,
    "leash": online.LEASH,
    "overoptimisation": aif.OVEROPTIMISATION,
    "feedback": feedback.FEEDBACK,
    "feedback_steps": feedback.FEEDBACK_STEPS,
}
