// Package captures lets another program read what the data plane puts on the
// wire: two planes exchange packets in every mode and with every algorithm, what
// went between them becomes a capture file, and tshark, which has the keys, must
// find in it the packets that were sent. It contains only tests.
//
// "go test ./captures -args -keep DIR" leaves the capture and its keys in DIR;
// "WIRESHARK_CONFIG_DIR=DIR wireshark DIR/captures.pcap" shows it opened.
package captures
