"""All certificates by name. A new one is an entry in one of these files."""

from experiments.certificates import computed, identities, states, trained
from experiments.certificates.certificate import Certificate

CERTIFICATES: dict[str, Certificate] = {
    each.name: each
    for each in (*computed.CERTIFICATES, *identities.CERTIFICATES, *trained.CERTIFICATES, *states.CERTIFICATES)
}
