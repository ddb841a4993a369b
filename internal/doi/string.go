package doi

import "fmt"

func (p Payload) String() string { return fmt.Sprintf("payload %d", uint8(p)) }
