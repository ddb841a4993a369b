package ipsecd

import (
	"context"
	"errors"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// Info says what the data plane could do when we connected.
func (p *Client) Info() dataplane.Info { return p.info }

// AllocSPI reserves an SPI.
func (p *Client) AllocSPI(ctx context.Context, r dataplane.SPIRequest) (ipsec.SPI, error) {
	a, err := p.call(ctx, &request{Op: opAlloc, SPI: &r})
	if err != nil {
		return 0, err
	}
	return a.SPI, nil
}

// AddSA makes an SA live.
func (p *Client) AddSA(ctx context.Context, sa *ipsec.SA) error {
	_, err := p.call(ctx, &request{Op: opAdd, SA: sa})
	return err
}

// UpdateSA changes an SA.
func (p *Client) UpdateSA(ctx context.Context, id ipsec.SAID, u ipsec.SAUpdate) error {
	_, err := p.call(ctx, &request{Op: opUpdate, Name: &id, Update: &u})
	return err
}

// DeleteSA removes an SA or gives back an SPI.
func (p *Client) DeleteSA(ctx context.Context, id ipsec.SAID) error {
	_, err := p.call(ctx, &request{Op: opDelete, Name: &id})
	return err
}

// GetSA tells what an SA has done.
func (p *Client) GetSA(ctx context.Context, id ipsec.SAID) (ipsec.SAState, error) {
	a, err := p.call(ctx, &request{Op: opGet, Name: &id})
	if err != nil {
		return ipsec.SAState{}, err
	}
	if a.SA == nil {
		return ipsec.SAState{}, errors.New("the data plane answered without the SA")
	}
	return *a.SA, nil
}

// ApplyFlows changes the SPD.
func (p *Client) ApplyFlows(ctx context.Context, changes []ipsec.FlowChange) error {
	_, err := p.call(ctx, &request{Op: opFlows, Flows: changes})
	return err
}

// EndAcquire answers an Acquire.
func (p *Client) EndAcquire(ctx context.Context, id dataplane.AcquireID, why error) error {
	r := &request{Op: opEndAcquire, Acquire: id}
	if why != nil {
		r.Failed = why.Error()
		if r.Failed == "" {
			r.Failed = "no reason was given"
		}
	}
	_, err := p.call(ctx, r)
	return err
}

// Dump lists SAs and flows.
func (p *Client) Dump(ctx context.Context, q dataplane.Query) (st dataplane.State, err error) {
	first := true
	err = p.pages(ctx, &request{Op: opDump, Query: &q}, func(a *answer) {
		if a.State == nil {
			return
		}
		if first {
			st.Drops, st.Off, first = a.State.Drops, a.State.Off, false
		}
		st.SAs = append(st.SAs, a.State.SAs...)
		st.Flows = append(st.Flows, a.State.Flows...)
	})
	if err != nil {
		return dataplane.State{}, err
	}
	return st, nil
}

// Totals sums up what went through.
func (p *Client) Totals(ctx context.Context) (dataplane.Totals, error) {
	a, err := p.call(ctx, &request{Op: opTotals})
	if err != nil {
		return dataplane.Totals{}, err
	}
	if a.Totals == nil {
		return dataplane.Totals{}, errors.New("the data plane answered without the totals")
	}
	return *a.Totals, nil
}

// Flush removes the owner's SAs and flows.
func (p *Client) Flush(ctx context.Context, o ipsec.Owner) error {
	_, err := p.call(ctx, &request{Op: opFlush, Owner: o})
	return err
}

// Enable switches a protocol on or off.
func (p *Client) Enable(ctx context.Context, proto ipsec.Proto, on bool) error {
	_, err := p.call(ctx, &request{Op: opEnable, Proto: proto, On: on})
	return err
}
