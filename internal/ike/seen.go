package ike

// maxSeen bounds the message IDs remembered under one ISAKMP SA. A peer that
// needs more has to make a new one.
const maxSeen = 8192

// idSet holds the message IDs that were used under an ISAKMP SA, by either
// side, so that neither a replayed nor a reflected message is taken twice
// (attack C2). A few entries are the rule: a slice is smaller than a map.
type idSet []uint32

func (s idSet) has(id uint32) bool {
	for _, v := range s {
		if v == id {
			return true
		}
	}
	return false
}

func (s *idSet) add(id uint32) { *s = append(*s, id) }

func (s idSet) full() bool { return len(s) >= maxSeen }
