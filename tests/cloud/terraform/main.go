// A provider that has the AWS provider's schema and no account behind it.
//
// The real one is no package of a registry, and would ask for an account. What the module says is settled before it is
// asked: OpenTofu evaluates each expression and holds each argument against the provider's schema. So this one serves
// the schema (provider_schema.py reads it) from the file that PROVIDER_SCHEMA names, takes what it is told, and makes
// up what an account would choose: for each computed text one that stands nowhere else.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"sort"
	"sync/atomic"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

type attribute struct {
	Type     json.RawMessage
	Required bool
	Optional bool
	Computed bool
}

type nested struct {
	Nesting string
	Min     int64
	Max     int64
	Block   block
}

type block struct {
	Attributes map[string]attribute
	Blocks     map[string]nested
}

// provider implements what OpenTofu calls; anything else would be a call on the nil interface.
type provider struct {
	tfprotov6.ProviderServer
	Resources map[string]block
	Data      map[string]block
	// Answers are what the data sources say, by type and attribute.
	Answers map[string]map[string]string
	made    atomic.Int64
}

func main() {
	text, err := os.ReadFile(os.Getenv("PROVIDER_SCHEMA"))
	if err != nil {
		log.Fatalf("PROVIDER_SCHEMA: %v", err)
	}
	served := &provider{}
	if err := json.Unmarshal(text, served); err != nil {
		log.Fatalf("PROVIDER_SCHEMA: %v", err)
	}
	factory := func() tfprotov6.ProviderServer { return served }
	if err := tf6server.Serve("hashicorp/aws", factory); err != nil {
		log.Fatal(err)
	}
}

var nestings = map[string]tfprotov6.SchemaNestedBlockNestingMode{
	"list":   tfprotov6.SchemaNestedBlockNestingModeList,
	"set":    tfprotov6.SchemaNestedBlockNestingModeSet,
	"single": tfprotov6.SchemaNestedBlockNestingModeSingle,
}

func (b block) schema() (*tfprotov6.SchemaBlock, error) {
	schema := &tfprotov6.SchemaBlock{}
	for _, name := range sorted(b.Attributes) {
		a := b.Attributes[name]
		kind, err := tftypes.ParseJSONType(a.Type) //nolint:staticcheck // The only reader of a type's JSON.
		if err != nil {
			return nil, fmt.Errorf("type of %s: %w", name, err)
		}
		schema.Attributes = append(schema.Attributes, &tfprotov6.SchemaAttribute{
			Name: name, Type: kind, Required: a.Required, Optional: a.Optional, Computed: a.Computed,
		})
	}
	for _, name := range sorted(b.Blocks) {
		n := b.Blocks[name]
		inner, err := n.Block.schema()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		schema.BlockTypes = append(schema.BlockTypes, &tfprotov6.SchemaNestedBlock{
			TypeName: name, Nesting: nestings[n.Nesting], Block: inner, MinItems: n.Min, MaxItems: n.Max,
		})
	}
	return schema, nil
}

func (p *provider) GetProviderSchema(
	context.Context, *tfprotov6.GetProviderSchemaRequest,
) (*tfprotov6.GetProviderSchemaResponse, error) {
	schemas := func(blocks map[string]block) (map[string]*tfprotov6.Schema, error) {
		made := map[string]*tfprotov6.Schema{}
		for name, b := range blocks {
			inner, err := b.schema()
			if err != nil {
				return nil, fmt.Errorf("schema of %s: %w", name, err)
			}
			made[name] = &tfprotov6.Schema{Block: inner}
		}
		return made, nil
	}
	resources, err := schemas(p.Resources)
	if err != nil {
		return nil, err
	}
	data, err := schemas(p.Data)
	return &tfprotov6.GetProviderSchemaResponse{
		Provider:           &tfprotov6.Schema{Block: &tfprotov6.SchemaBlock{}},
		ResourceSchemas:    resources,
		DataSourceSchemas:  data,
		ServerCapabilities: &tfprotov6.ServerCapabilities{PlanDestroy: false},
	}, err
}

func (p *provider) ValidateProviderConfig(
	_ context.Context, request *tfprotov6.ValidateProviderConfigRequest,
) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: request.Config}, nil
}

func (p *provider) ConfigureProvider(
	context.Context, *tfprotov6.ConfigureProviderRequest,
) (*tfprotov6.ConfigureProviderResponse, error) {
	return &tfprotov6.ConfigureProviderResponse{}, nil
}

func (p *provider) StopProvider(
	context.Context, *tfprotov6.StopProviderRequest,
) (*tfprotov6.StopProviderResponse, error) {
	return &tfprotov6.StopProviderResponse{}, nil
}

func (p *provider) ValidateResourceConfig(
	context.Context, *tfprotov6.ValidateResourceConfigRequest,
) (*tfprotov6.ValidateResourceConfigResponse, error) {
	return &tfprotov6.ValidateResourceConfigResponse{}, nil
}

func (p *provider) ValidateDataResourceConfig(
	context.Context, *tfprotov6.ValidateDataResourceConfigRequest,
) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	return &tfprotov6.ValidateDataResourceConfigResponse{}, nil
}

func (p *provider) ReadDataSource(
	_ context.Context, request *tfprotov6.ReadDataSourceRequest,
) (*tfprotov6.ReadDataSourceResponse, error) {
	answers := p.Answers[request.TypeName]
	answer := func(kind tftypes.Type, name string) tftypes.Value {
		if text, known := answers[name]; known {
			return tftypes.NewValue(kind, text)
		}
		return p.madeUp(kind, request.TypeName+"."+name)
	}
	state, err := changed(p.Data[request.TypeName], request.Config, answer)
	return &tfprotov6.ReadDataSourceResponse{State: state}, err
}

func (p *provider) UpgradeResourceState(
	_ context.Context, request *tfprotov6.UpgradeResourceStateRequest,
) (*tfprotov6.UpgradeResourceStateResponse, error) {
	return &tfprotov6.UpgradeResourceStateResponse{
		UpgradedState: &tfprotov6.DynamicValue{JSON: request.RawState.JSON},
	}, nil
}

func (p *provider) ReadResource(
	_ context.Context, request *tfprotov6.ReadResourceRequest,
) (*tfprotov6.ReadResourceResponse, error) {
	return &tfprotov6.ReadResourceResponse{NewState: request.CurrentState}, nil
}

func (p *provider) PlanResourceChange(
	_ context.Context, request *tfprotov6.PlanResourceChangeRequest,
) (*tfprotov6.PlanResourceChangeResponse, error) {
	unknown := func(kind tftypes.Type, _ string) tftypes.Value { return tftypes.NewValue(kind, tftypes.UnknownValue) }
	state, err := changed(p.Resources[request.TypeName], request.ProposedNewState, unknown)
	return &tfprotov6.PlanResourceChangeResponse{PlannedState: state}, err
}

func (p *provider) ApplyResourceChange(
	_ context.Context, request *tfprotov6.ApplyResourceChangeRequest,
) (*tfprotov6.ApplyResourceChangeResponse, error) {
	made := func(kind tftypes.Type, name string) tftypes.Value { return p.madeUp(kind, request.TypeName+"."+name) }
	state, err := changed(p.Resources[request.TypeName], request.PlannedState, made)
	return &tfprotov6.ApplyResourceChangeResponse{NewState: state}, err
}

// madeUp is a value that the account would have chosen.
func (p *provider) madeUp(kind tftypes.Type, name string) tftypes.Value {
	switch {
	case kind.Is(tftypes.String):
		return tftypes.NewValue(kind, fmt.Sprintf("(%s %d)", name, p.made.Add(1)))
	case kind.Is(tftypes.Number):
		return tftypes.NewValue(kind, 0)
	case kind.Is(tftypes.Bool):
		return tftypes.NewValue(kind, false)
	case kind.Is(tftypes.Map{}):
		return tftypes.NewValue(kind, map[string]tftypes.Value{})
	}
	return tftypes.NewValue(kind, []tftypes.Value{})
}

// changed is the value with each computed attribute that it lacks put in by `choose`.
func changed(
	b block, given *tfprotov6.DynamicValue, choose func(tftypes.Type, string) tftypes.Value,
) (*tfprotov6.DynamicValue, error) {
	schema, err := b.schema()
	if err != nil {
		return nil, err
	}
	value, err := given.Unmarshal(schema.ValueType())
	if err != nil {
		return nil, err
	}
	if value, err = b.completed(value, choose); err != nil {
		return nil, err
	}
	made, err := tfprotov6.NewDynamicValue(schema.ValueType(), value)
	return &made, err
}

func (b block) completed(
	value tftypes.Value, choose func(tftypes.Type, string) tftypes.Value,
) (tftypes.Value, error) {
	if value.IsNull() || !value.IsKnown() {
		return value, nil
	}
	if kind := value.Type(); !kind.Is(tftypes.Object{}) {
		var items []tftypes.Value
		if err := value.As(&items); err != nil {
			return value, err
		}
		for place := range items {
			item, err := b.completed(items[place], choose)
			if err != nil {
				return value, err
			}
			items[place] = item
		}
		return tftypes.NewValue(kind, items), nil
	}
	var fields map[string]tftypes.Value
	if err := value.As(&fields); err != nil {
		return value, err
	}
	for name, a := range b.Attributes {
		if field := fields[name]; a.Computed && (field.IsNull() || !field.IsKnown()) {
			fields[name] = choose(field.Type(), name)
		}
	}
	for name, n := range b.Blocks {
		field, err := n.Block.completed(fields[name], choose)
		if err != nil {
			return value, fmt.Errorf("%s: %w", name, err)
		}
		fields[name] = field
	}
	return tftypes.NewValue(value.Type(), fields), nil
}

func sorted[V any](named map[string]V) []string {
	names := make([]string, 0, len(named))
	for name := range named {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
