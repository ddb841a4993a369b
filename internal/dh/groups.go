package dh

import (
	"crypto/ecdh"

	"oakley/internal/doi"
)

// groups are all there are.
//
// The length of a MODP exponent is the exponent size of the higher of the two
// estimates in the table of RFC 3526 section 8, twice the group's strength in
// bits, rounded up to bytes. The table starts at 1536 bits: the two groups of
// RFC 2409 give 80 bits at most (RFC 5114 section 4 on 1024 bits), and RFC 2412
// appendix D wants 180 bits of exponent at least; they get 192.
var groups = index(
	&Group{doi.GroupMODP768, "MODP-768", newMODP(prime768, 192)},
	&Group{doi.GroupMODP1024, "MODP-1024", newMODP(prime1024, 192)},
	&Group{doi.GroupMODP1536, "MODP-1536", newMODP(prime1536, 240)},
	&Group{doi.GroupMODP2048, "MODP-2048", newMODP(prime2048, 320)},
	&Group{doi.GroupMODP3072, "MODP-3072", newMODP(prime3072, 420)},
	&Group{doi.GroupMODP4096, "MODP-4096", newMODP(prime4096, 480)},
	&Group{doi.GroupMODP6144, "MODP-6144", newMODP(prime6144, 540)},
	&Group{doi.GroupMODP8192, "MODP-8192", newMODP(prime8192, 620)},
	&Group{doi.GroupECP256, "P-256", newNIST(ecdh.P256(), 256)},
	&Group{doi.GroupECP384, "P-384", newNIST(ecdh.P384(), 384)},
	&Group{doi.GroupECP521, "P-521", newNIST(ecdh.P521(), 521)},
	&Group{doi.GroupECP192, "P-192", newCurve(p192)},
	&Group{doi.GroupECP224, "P-224", newCurve(p224)},
	&Group{doi.GroupBP224, "brainpoolP224r1", newCurve(brainpool224)},
	&Group{doi.GroupBP256, "brainpoolP256r1", newCurve(brainpool256)},
	&Group{doi.GroupBP384, "brainpoolP384r1", newCurve(brainpool384)},
	&Group{doi.GroupBP512, "brainpoolP512r1", newCurve(brainpool512)},
	&Group{doi.GroupCurve25519, "Curve25519", newX25519()},
)

// refused are groups with a number that are left out on purpose.
var refused = map[doi.Group]string{
	doi.GroupEC2N155: "EC2N over GF(2^155), broken",
	doi.GroupEC2N185: "EC2N over GF(2^185), broken",
	22:               "MODP-1024 with a 160-bit subgroup, too weak for RFC 8247",
	23:               "MODP-2048 with a 224-bit subgroup, not recommended by RFC 8247",
	24:               "MODP-2048 with a 256-bit subgroup, not recommended by RFC 8247",
}

func index(all ...*Group) map[doi.Group]*Group {
	m := make(map[doi.Group]*Group, len(all))
	for _, g := range all {
		m[g.id] = g
	}
	return m
}
