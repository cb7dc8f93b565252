package redisclient

import "strings"

// hashSlots is how many hash slots a Redis Cluster divides its keys into.
const hashSlots = 16384

// hashSlot returns the slot of a key: the CRC16 (XMODEM) of what stands in its first braces, as Redis Cluster's
// specification defines it.
func hashSlot(key string) uint16 {
	if _, rest, found := strings.Cut(key, "{"); found {
		if tag, _, closed := strings.Cut(rest, "}"); closed && tag != "" {
			key = tag
		}
	}
	var crc uint16
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			carry := crc & 0x8000
			crc <<= 1
			if carry != 0 {
				crc ^= 0x1021
			}
		}
	}
	return crc % hashSlots
}
