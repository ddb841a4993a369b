package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"oakley/internal/lab"
)

// result is one run.
type result struct {
	Mbit        float64    // received, a second
	CPU         [2]float64 // of a processor, by gateway
	Resident    int64      // bytes, the larger gateway's peak
	Foreign     float64    // of a processor: what others on this machine used meanwhile
	Retransmits int64
}

// perGbit is the processor time of both gateways for a gigabit, in seconds.
func (r *result) perGbit() float64 { return (r.CPU[0] + r.CPU[1]) * 1000 / r.Mbit }

// iperf is the part of its report that is used.
type iperf struct {
	End struct {
		Sent struct {
			Retransmits int64 `json:"retransmits"`
		} `json:"sum_sent"`
		Received struct {
			Rate float64 `json:"bits_per_second"`
		} `json:"sum_received"`
		CPU struct {
			Client float64 `json:"host_total"`
			Server float64 `json:"remote_total"`
		} `json:"cpu_utilization_percent"`
	} `json:"end"`
	Error string `json:"error"`
}

// measure sends TCP streams from client to server for a while. pids are the
// gateways' daemons.
func (n *network) measure(streams int, length time.Duration, pids [2]int) (r result, err error) {
	prog, err := lab.Program("iperf3")
	if err != nil {
		return r, fmt.Errorf("%w (Debian: apt-get install iperf3)", err)
	}
	server, err := n.server.Start(lab.Command{Path: prog, Args: []string{"-s", "-1", "--forceflush", "-B", serverIP.String()}})
	if err != nil {
		return r, err
	}
	defer server.Kill()
	if _, err := server.Log.Wait("listening", 5*time.Second); err != nil {
		return r, err
	}
	before, err := readClocks(pids)
	if err != nil {
		return r, err
	}
	start := time.Now()
	out, err := n.client.Run(length+20*time.Second, prog, "-c", serverIP.String(), "-C", "cubic", "-J",
		"-t", strconv.Itoa(int(length.Seconds())), "-P", strconv.Itoa(streams))
	took := time.Since(start).Seconds()
	if err != nil {
		return r, err
	}
	after, err := readClocks(pids)
	if err != nil {
		return r, err
	}
	var report iperf
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Error != "" {
		return r, fmt.Errorf("iperf3 reports %q: %w", report.Error, err)
	}
	share := func(ticks int64) float64 { return float64(ticks) / ticksPerSecond / took }
	r.Mbit = report.End.Received.Rate / 1e6
	r.Retransmits = report.End.Sent.Retransmits
	r.Foreign = share(after.machine-before.machine-after.kernel+before.kernel) - (report.End.CPU.Client+report.End.CPU.Server)/100
	for i, pid := range pids {
		r.CPU[i] = share(after.daemon[i] - before.daemon[i])
		r.Foreign -= r.CPU[i]
		_, peak := resident(pid)
		r.Resident = max(r.Resident, peak)
	}
	return r, nil
}

// clocks are the processor times at one moment, in ticks.
type clocks struct {
	machine, kernel int64
	daemon          [2]int64
}

func readClocks(pids [2]int) (c clocks, err error) {
	c.kernel = kernelTime()
	for i, pid := range pids {
		if c.daemon[i], err = processTime(pid); err != nil {
			return c, fmt.Errorf("a gateway's daemon ended: %w", err)
		}
	}
	c.machine, err = machineTime()
	return c, err
}
