// Package samples holds configurations to begin with: a gateway in the east and
// one in the west (east.conf, west.conf) and two single hosts (host-a.conf,
// host-b.conf). Its tests run each as it is.
package samples
