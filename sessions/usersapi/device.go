package usersapi

import "gatehouse.dev/gatehouse/sessions"

// device is what a user agent tells of itself. It may be lying.
type device struct {
	Browser string `json:"browser,omitempty"`
	OS      string `json:"os,omitempty"`
	Type    string `json:"type"` // desktop, mobile, tablet, other
	Name    string `json:"name,omitempty"`
}

func newDevice(agent, name string) *device {
	d := sessions.DeviceOf(agent)
	return &device{Browser: d.Browser, OS: d.OS, Type: d.Type, Name: name}
}
