import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canopy.identity import ids, keys
from canopy.identity.svid import (
    BadCsr,
    BadSvid,
    Bundle,
    Svid,
    certificates,
    make_csr,
    new_key,
    public_key,
    read_csr,
    sign,
    verify,
)

ID = ids.node("canopy.test", "edge-1")
KEY = new_key()
OTHER = new_key()


def test_a_csr_reads_as_it_was_made():
    csr = read_csr(make_csr(KEY, ID, ("hub.example", "localhost"), ("127.0.0.1",)))
    assert (csr.id, csr.dns, csr.ips) == (ID, ("hub.example", "localhost"), ("127.0.0.1",))
    assert csr.public_key_pem == public_key(KEY)


def test_a_csr_of_another_key_is_refused():
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    mine = x509.load_pem_x509_csr(make_csr(KEY, ID)).public_bytes(Encoding.DER)
    theirs = x509.load_pem_x509_csr(make_csr(OTHER, ID)).public_bytes(Encoding.DER)
    point = keys.load(OTHER).public_key().public_bytes(Encoding.X962, keys.serialization.PublicFormat.UncompressedPoint)
    own = keys.load(KEY).public_key().public_bytes(Encoding.X962, keys.serialization.PublicFormat.UncompressedPoint)
    assert point in theirs and own in mine
    forged = x509.load_der_x509_csr(mine.replace(own, point)).public_bytes(Encoding.PEM)
    with pytest.raises(BadCsr, match="not signed by its own key"):
        read_csr(forged)


@pytest.mark.parametrize("size_bits", [1024])
def test_a_weak_key_is_refused(size_bits):
    from cryptography.hazmat.primitives.asymmetric import rsa

    weak = keys.private_pem(rsa.generate_private_key(65537, size_bits))
    with pytest.raises(BadCsr, match="use EC P-256"):
        read_csr(make_csr(weak, ID))


def test_a_csr_without_or_with_two_ids_is_refused():
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    def csr(*uris: str) -> bytes:
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        if uris:
            names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(u) for u in uris])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(keys.load(KEY), hashes.SHA256()).public_bytes(Encoding.PEM)

    with pytest.raises(BadCsr, match="no SPIFFE ID"):
        read_csr(csr())
    with pytest.raises(BadCsr, match="2 URIs"):
        read_csr(csr(str(ID), "spiffe://canopy.test/hub"))
    with pytest.raises(BadCsr, match="no SPIFFE ID"):
        read_csr(csr("https://canopy.test"))


@settings(max_examples=60)
@given(st.binary(max_size=400), st.integers(0, 700), st.integers(0, 255))
def test_no_bytes_crash_the_reading_of_a_csr(junk, at, value):
    good = bytearray(make_csr(KEY, ID))
    good[at % len(good)] = value
    for data in (junk, bytes(good), bytes(good[:at]), b"x" * 20_000):
        try:
            read = read_csr(data)
        except BadCsr:
            continue
        assert read.public_key_pem == public_key(KEY), "what is read is what was signed"


def test_a_signature_is_good_for_its_key_and_data_only():
    signature = sign(KEY, b"nonce")
    assert verify(public_key(KEY), signature, b"nonce")
    assert not verify(public_key(KEY), signature, b"nonce2")
    assert not verify(public_key(OTHER), signature, b"nonce")
    assert not verify(b"no key", signature, b"nonce")
    assert not verify(public_key(KEY), b"", b"nonce")


@pytest.mark.parametrize("pem", [b"", b"junk", KEY, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_svid_or_bundle_says_so(pem):
    for read in (Svid.read, Bundle.read, certificates):
        with pytest.raises(BadSvid):
            read(pem)


def test_a_secret_is_in_no_text_that_people_read():
    assert "PRIVATE" not in repr(Svid(ID, b"", KEY, 0, 1, 1))
