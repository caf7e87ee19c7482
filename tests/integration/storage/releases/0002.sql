-- A database of revision 0002, as a control plane and a runner of that release left it when both were killed while a task performed.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE api_keys (
	id VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	login VARCHAR(128) NOT NULL, 
	teams JSON NOT NULL, 
	admin BOOLEAN NOT NULL, 
	machine BOOLEAN NOT NULL, 
	secret_hash BLOB NOT NULL, 
	created_at BIGINT NOT NULL, 
	expires_at BIGINT, 
	revoked_at BIGINT, 
	last_used_at BIGINT, 
	CONSTRAINT pk_api_keys PRIMARY KEY (id)
);
INSERT INTO "api_keys" VALUES('key_01m860dr2e71x94zanq3hmfatn','First admin','admin','[]',1,0,X'04C24303602085C2809AF5EA6833E4139CA79948B4243BD4C5B250F29062F476',1795498106958548,NULL,NULL,1795498106994855);
INSERT INTO "api_keys" VALUES('key_01m860dsj355dhv31gsvetbvmr','deploy','deploy','["ops"]',0,0,X'C3FF565742B123AA7EB1FBF1DC41F7EAAAB455E847F7A2D7302869996FD82217',1795498108483599,NULL,NULL,NULL);
CREATE TABLE assignments (
	id VARCHAR(64) NOT NULL, 
	run_id VARCHAR(64) NOT NULL, 
	stack_id VARCHAR(64) NOT NULL, 
	runner_id VARCHAR(64) NOT NULL, 
	pool_id VARCHAR(64) NOT NULL, 
	fence BIGINT NOT NULL, 
	boot_id VARCHAR(64) NOT NULL, 
	job_sealed BLOB, 
	assigned_at BIGINT NOT NULL, 
	accepted_at BIGINT, 
	ended_at BIGINT, 
	CONSTRAINT pk_assignments PRIMARY KEY (id), 
	CONSTRAINT fk_assignments_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "assignments" VALUES('asg_01m860drm8f9fs0e06fzs6ntrg','run_01m860drkzd8stebgd3s6gw32a','network','rnr_pb4xmr8eqjoxm9e9o6t3kodwgl','public',1,'2021b86c-4875-406d-ad9a-cc1c5eaf67b1',NULL,1795498107528180,1795498107544451,1795498107852263);
INSERT INTO "assignments" VALUES('asg_01m860dryt70deah4s55fny859','run_01m860drypafygek3kfqft109z','network','rnr_pb4xmr8eqjoxm9e9o6t3kodwgl','public',2,'2021b86c-4875-406d-ad9a-cc1c5eaf67b1',NULL,1795498107866351,1795498107881713,1795498108197187);
INSERT INTO "assignments" VALUES('asg_01m860ds9zd4zfsdetq0axgveg','run_01m860ds9s3wswyz7cj9dgp4ba','database','rnr_pb4xmr8eqjoxm9e9o6t3kodwgl','public',1,'2021b86c-4875-406d-ad9a-cc1c5eaf67b1',X'B22EE78CC302A6E78668B0823524D8F6B261BFEDD3B14E1883DACBE0EA1CBD3119FA4E33BBF07FC1DF27726F1ED4CE51A98AE00613EA97D0F387B8D8BBBE47F5BFC5D49C7C1263EE04D88F5722FD82E5EE2209226953FA14508FBEB844F2994B0C46B73C91EE69245067BAAAB9EEBF102C94B091B3108E035B',1795498108223303,1795498108233221,NULL);
CREATE TABLE audit_events (
	id VARCHAR(64) NOT NULL, 
	occurred_at BIGINT NOT NULL, 
	caller_id VARCHAR(64) NOT NULL, 
	caller_login VARCHAR(128) NOT NULL, 
	caller BLOB NOT NULL, 
	action VARCHAR(64) NOT NULL, 
	resource_type VARCHAR(32) NOT NULL, 
	resource_id VARCHAR(64) NOT NULL, 
	stack_id VARCHAR(64) NOT NULL, 
	remote_ip VARCHAR(64) NOT NULL, 
	details TEXT NOT NULL, 
	CONSTRAINT pk_audit_events PRIMARY KEY (id)
);
INSERT INTO "audit_events" VALUES('evt_01m860dr2gf243m3e3y6xzeaha',1795498106960539,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','api_key.created','api_key','key_01m860dr2e71x94zanq3hmfatn','','','{"admin": true, "expires_at_us": null, "login": "admin", "machine": false, "name": "First admin", "teams": []}');
INSERT INTO "audit_events" VALUES('evt_01m860dr3y0nvapbf2bfnttc21',1795498107006392,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','pool_token.created','pool_token','ptk_01m860dr3w1e4s5ggttqzt0rkv','','127.0.0.1','{"name": "one", "pool_id": "public"}');
INSERT INTO "audit_events" VALUES('evt_01m860dre2er6vg3csc7evyb8b',1795498107330731,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','runner.registered','runner','rnr_pb4xmr8eqjoxm9e9o6t3kodwgl','','127.0.0.1','{"capacity": 2, "name": "one", "pool_id": "public", "version": "0.1.0"}');
INSERT INTO "audit_events" VALUES('evt_01m860drjr1mt9rkyxxzd5kvfj',1795498107480067,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','policy.created','policy','no-destroy','','127.0.0.1','{"kind": "task", "labels": ["autoattach:prod"], "name": "no destroy"}');
INSERT INTO "audit_events" VALUES('evt_01m860drke0gq0bp37a55x8xfd',1795498107502933,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','stack.created','stack','network','network','127.0.0.1','{"labels": ["prod"], "name": "network", "pool": "public"}');
INSERT INTO "audit_events" VALUES('evt_01m860drkp4grmn432qg9735y3',1795498107510813,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','stack.environment_set','stack','network','network','127.0.0.1','{"files": [], "variables": ["REGION", "TOKEN"]}');
INSERT INTO "audit_events" VALUES('evt_01m860drm2aec63cy3qdkv00yh',1795498107522154,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','task.created','run','run_01m860drkzd8stebgd3s6gw32a','network','127.0.0.1','{"command": "echo finished", "decision_id": "dec_01m860drkzd8stebgd3s6gvcy7", "skip_initialization": false}');
INSERT INTO "audit_events" VALUES('evt_01m860drm54e6gvrbsyh2fhjwf',1795498107525395,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','run.ready','run','run_01m860drkzd8stebgd3s6gw32a','network','','{"fence": 1, "from": "QUEUED", "reason": "its turn on the stack has come", "runner_id": "rnr_pb4xmr8eqjoxm9e9o6t3kodwgl"}');
INSERT INTO "audit_events" VALUES('evt_01m860drmt931q3bmp3x9amt3q',1795498107546349,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','run.preparing','run','run_01m860drkzd8stebgd3s6gw32a','network','','{"from": "READY", "reason": "a runner prepares it"}');
INSERT INTO "audit_events" VALUES('evt_01m860drwt79hhdd73etgk4p3h',1795498107803012,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','run.initializing','run','run_01m860drkzd8stebgd3s6gw32a','network','','{"from": "PREPARING", "reason": "hooks and init run"}');
INSERT INTO "audit_events" VALUES('evt_01m860drwxf3arb9ttb0kpp607',1795498107805068,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','run.performing','run','run_01m860drkzd8stebgd3s6gw32a','network','','{"from": "INITIALIZING", "reason": "init is done, the gate is open"}');
INSERT INTO "audit_events" VALUES('evt_01m860dryaa6m9j8c8sfky2wzv',1795498107851011,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','run.finished','run','run_01m860drkzd8stebgd3s6gw32a','network','','{"exit_code": 0, "from": "PERFORMING", "reason": "exit code 0, all output stored"}');
INSERT INTO "audit_events" VALUES('evt_01m860dryq0smt8hvt4c6kayvm',1795498107863467,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','task.created','run','run_01m860drypafygek3kfqft109z','network','127.0.0.1','{"command": "echo failed; exit 3", "decision_id": "dec_01m860drypafygek3kfqft0vva", "skip_initialization": false}');
INSERT INTO "audit_events" VALUES('evt_01m860drys3qy13mwyqnc3m1vc',1795498107865831,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','run.ready','run','run_01m860drypafygek3kfqft109z','network','','{"fence": 2, "from": "QUEUED", "reason": "its turn on the stack has come", "runner_id": "rnr_pb4xmr8eqjoxm9e9o6t3kodwgl"}');
INSERT INTO "audit_events" VALUES('evt_01m860drza88jxdj7cfkp10a8e',1795498107882141,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','run.preparing','run','run_01m860drypafygek3kfqft109z','network','','{"from": "READY", "reason": "a runner prepares it"}');
INSERT INTO "audit_events" VALUES('evt_01m860ds7m29wqr6d24jse3f1c',1795498108148907,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','run.initializing','run','run_01m860drypafygek3kfqft109z','network','','{"from": "PREPARING", "reason": "hooks and init run"}');
INSERT INTO "audit_events" VALUES('evt_01m860ds7qfpcw4vbaaxkvjfna',1795498108151456,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','run.performing','run','run_01m860drypafygek3kfqft109z','network','','{"from": "INITIALIZING", "reason": "init is done, the gate is open"}');
INSERT INTO "audit_events" VALUES('evt_01m860ds94f19vh0q5xs44x71a',1795498108196923,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','run.failed','run','run_01m860drypafygek3kfqft109z','network','','{"exit_code": 3, "from": "PERFORMING", "reason": "the command ended with exit code 3"}');
INSERT INTO "audit_events" VALUES('evt_01m860ds9e5yq6vgejnqsp4mmv',1795498108206938,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','task.denied','stack','network','network','127.0.0.1','{"command": "terraform destroy", "decision_id": "dec_01m860ds9e5yq6vgejnqsp349v", "reason": "not now"}');
INSERT INTO "audit_events" VALUES('evt_01m860ds9h8hx92camp2zqbsqy',1795498108209633,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','stack.created','stack','database','database','127.0.0.1','{"labels": [], "name": "database", "pool": "public"}');
INSERT INTO "audit_events" VALUES('evt_01m860ds9n4r5ycc05mbakgvxh',1795498108213375,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','stack.locked','stack','database','database','127.0.0.1','{"note": "maintenance"}');
INSERT INTO "audit_events" VALUES('evt_01m860ds9teewv2y7qzjgq5n3b',1795498108218376,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','task.created','run','run_01m860ds9s3wswyz7cj9dgp4ba','database','127.0.0.1','{"command": "sleep 4", "decision_id": "dec_01m860ds9s3wswyz7cj9dgna37", "skip_initialization": false}');
INSERT INTO "audit_events" VALUES('evt_01m860ds9w6smmhzn725h73nv8',1795498108221004,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','run.ready','run','run_01m860ds9s3wswyz7cj9dgp4ba','database','','{"fence": 1, "from": "QUEUED", "reason": "its turn on the stack has come", "runner_id": "rnr_pb4xmr8eqjoxm9e9o6t3kodwgl"}');
INSERT INTO "audit_events" VALUES('evt_01m860dsa94j1w5ph2g641shxd',1795498108233617,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','run.preparing','run','run_01m860ds9s3wswyz7cj9dgp4ba','database','','{"from": "READY", "reason": "a runner prepares it"}');
INSERT INTO "audit_events" VALUES('evt_01m860dshgd6vdk5z2zat5k18y',1795498108464267,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','run.initializing','run','run_01m860ds9s3wswyz7cj9dgp4ba','database','','{"from": "PREPARING", "reason": "hooks and init run"}');
INSERT INTO "audit_events" VALUES('evt_01m860dshjca2xsptwyanev4tr',1795498108466533,'system','system',X'0A0673797374656D120673797374656D1A09496E7465726C6F636B','run.performing','run','run_01m860ds9s3wswyz7cj9dgp4ba','database','','{"from": "INITIALIZING", "reason": "init is done, the gate is open"}');
INSERT INTO "audit_events" VALUES('evt_01m860dshr8ynvkrfswrbw8ybr',1795498108472868,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','task.created','run','run_01m860dshr8ynvkrfswrbw8q5a','database','127.0.0.1','{"command": "echo queued", "decision_id": "dec_01m860dshqfs3j2sj06yv2ppzj", "skip_initialization": false}');
INSERT INTO "audit_events" VALUES('evt_01m860dshw1md8f2xv0rxfh3t2',1795498108476794,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','task.created','run','run_01m860dshw1md8f2xv0rxffnep','database','127.0.0.1','{"command": "echo discarded", "decision_id": "dec_01m860dshw1md8f2xv0rxfertt", "skip_initialization": false}');
INSERT INTO "audit_events" VALUES('evt_01m860dsj03cmf53ppjaeh1z5k',1795498108480320,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','run.discarded','run','run_01m860dshw1md8f2xv0rxffnep','database','127.0.0.1','{"from": "QUEUED", "reason": "discarded by admin"}');
INSERT INTO "audit_events" VALUES('evt_01m860dsj419aqmf8wj8jwtz77',1795498108484492,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','api_key.created','api_key','key_01m860dsj355dhv31gsvetbvmr','','127.0.0.1','{"admin": false, "expires_at_us": null, "login": "deploy", "machine": false, "name": "deploy", "teams": ["ops"]}');
CREATE TABLE audit_seals (
	sequence INTEGER NOT NULL, 
	event_id VARCHAR(64) NOT NULL, 
	previous_hash VARCHAR(64) NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_audit_seals PRIMARY KEY (sequence), 
	CONSTRAINT uq_audit_seals_event_id UNIQUE (event_id)
);
INSERT INTO "audit_seals" VALUES(1,'evt_01m860dr2gf243m3e3y6xzeaha','0000000000000000000000000000000000000000000000000000000000000000','ec0f29a535a36b45e64d6667ab3eff7734a014dfbe66d8ffee7ca1bb85f10d98');
INSERT INTO "audit_seals" VALUES(2,'evt_01m860dr3y0nvapbf2bfnttc21','ec0f29a535a36b45e64d6667ab3eff7734a014dfbe66d8ffee7ca1bb85f10d98','ac496596313d53f7a113edc9b9bb02a43edae81020e1a01a3ec67df2b532d087');
INSERT INTO "audit_seals" VALUES(3,'evt_01m860dre2er6vg3csc7evyb8b','ac496596313d53f7a113edc9b9bb02a43edae81020e1a01a3ec67df2b532d087','7af861bd389121833eae87b5ffdc4ef56f8aee85fa48e724b3e00d954684e461');
INSERT INTO "audit_seals" VALUES(4,'evt_01m860drjr1mt9rkyxxzd5kvfj','7af861bd389121833eae87b5ffdc4ef56f8aee85fa48e724b3e00d954684e461','172b9002bbb787db75254133f78f07d2c72371f9f758f10f433cda7f8de9af73');
INSERT INTO "audit_seals" VALUES(5,'evt_01m860drke0gq0bp37a55x8xfd','172b9002bbb787db75254133f78f07d2c72371f9f758f10f433cda7f8de9af73','6eff4cf7d046c247446b8d6385e5a332f572d35525fe009e28256a60e597c896');
INSERT INTO "audit_seals" VALUES(6,'evt_01m860drkp4grmn432qg9735y3','6eff4cf7d046c247446b8d6385e5a332f572d35525fe009e28256a60e597c896','404dbc0c4232af8349655d4bbe3afa0cbc3d7887eccd075399299f12431e4ced');
INSERT INTO "audit_seals" VALUES(7,'evt_01m860drm2aec63cy3qdkv00yh','404dbc0c4232af8349655d4bbe3afa0cbc3d7887eccd075399299f12431e4ced','85f883354075cfa676f9a49cb19dbb8cc3ce75a8de4a907ffb44dc72ba2364c8');
INSERT INTO "audit_seals" VALUES(8,'evt_01m860drm54e6gvrbsyh2fhjwf','85f883354075cfa676f9a49cb19dbb8cc3ce75a8de4a907ffb44dc72ba2364c8','c2b51753f505cb9d1458f9aba2e3e2a48d6f11e129cd38b5b7a25a7be02cc147');
INSERT INTO "audit_seals" VALUES(9,'evt_01m860drmt931q3bmp3x9amt3q','c2b51753f505cb9d1458f9aba2e3e2a48d6f11e129cd38b5b7a25a7be02cc147','1228c4ced27d2d998075fdea1912f38bf0756dcdba27e48198e900f7f01a9135');
INSERT INTO "audit_seals" VALUES(10,'evt_01m860drwt79hhdd73etgk4p3h','1228c4ced27d2d998075fdea1912f38bf0756dcdba27e48198e900f7f01a9135','96828c2d5154a4e02a1510d8bb5d96d4f65a790effc6c8a7249fb3bab2307d16');
INSERT INTO "audit_seals" VALUES(11,'evt_01m860drwxf3arb9ttb0kpp607','96828c2d5154a4e02a1510d8bb5d96d4f65a790effc6c8a7249fb3bab2307d16','d68e086eb65b1a7e9c565d440621f09fb06f4c40f99dd56b31322467d2da60ed');
INSERT INTO "audit_seals" VALUES(12,'evt_01m860dryaa6m9j8c8sfky2wzv','d68e086eb65b1a7e9c565d440621f09fb06f4c40f99dd56b31322467d2da60ed','4edfea49019a63b916bdb2792666addee6ff76c2d33ceb2d9b754571fc202365');
INSERT INTO "audit_seals" VALUES(13,'evt_01m860dryq0smt8hvt4c6kayvm','4edfea49019a63b916bdb2792666addee6ff76c2d33ceb2d9b754571fc202365','7ca23cb7d3a34b4f429df6d689286612b383743f4fc22f9c98d12d1f4118d58f');
INSERT INTO "audit_seals" VALUES(14,'evt_01m860drys3qy13mwyqnc3m1vc','7ca23cb7d3a34b4f429df6d689286612b383743f4fc22f9c98d12d1f4118d58f','bcec29e96d9f68cb0f05f0f2c49743bd074de4d205bf7c01b206b01b90363db9');
INSERT INTO "audit_seals" VALUES(15,'evt_01m860drza88jxdj7cfkp10a8e','bcec29e96d9f68cb0f05f0f2c49743bd074de4d205bf7c01b206b01b90363db9','9b53fcea30261182bbbf028ce42eee4e772f285c48ee93b645b73b9b01f2724f');
INSERT INTO "audit_seals" VALUES(16,'evt_01m860ds7m29wqr6d24jse3f1c','9b53fcea30261182bbbf028ce42eee4e772f285c48ee93b645b73b9b01f2724f','49998a5ac2a8fbbf59b31c09c3b3d091b5d9a53b177a1e9bf41bd4d550a71749');
INSERT INTO "audit_seals" VALUES(17,'evt_01m860ds7qfpcw4vbaaxkvjfna','49998a5ac2a8fbbf59b31c09c3b3d091b5d9a53b177a1e9bf41bd4d550a71749','2b530a9c6cacb6cab9e12eb0ea6ee292027e1bb698443e92f03e263f83b682c0');
INSERT INTO "audit_seals" VALUES(18,'evt_01m860ds94f19vh0q5xs44x71a','2b530a9c6cacb6cab9e12eb0ea6ee292027e1bb698443e92f03e263f83b682c0','0c1959d0667b1334490101fdcc4cd560b24c1d33bce557271a77624d910a1ba5');
INSERT INTO "audit_seals" VALUES(19,'evt_01m860ds9e5yq6vgejnqsp4mmv','0c1959d0667b1334490101fdcc4cd560b24c1d33bce557271a77624d910a1ba5','3bae671567a17ff93937d5f2f21706cb657dc570d17a476e1d7d6d41b2460754');
INSERT INTO "audit_seals" VALUES(20,'evt_01m860ds9h8hx92camp2zqbsqy','3bae671567a17ff93937d5f2f21706cb657dc570d17a476e1d7d6d41b2460754','7380beac605a347aa71fb699608e669b76f868cc74fb7cec146dfaca9badffe6');
INSERT INTO "audit_seals" VALUES(21,'evt_01m860ds9n4r5ycc05mbakgvxh','7380beac605a347aa71fb699608e669b76f868cc74fb7cec146dfaca9badffe6','567a02e3afc90f61937d089403db50851e59cc74ad6f8be032d763200ed141b3');
INSERT INTO "audit_seals" VALUES(22,'evt_01m860ds9teewv2y7qzjgq5n3b','567a02e3afc90f61937d089403db50851e59cc74ad6f8be032d763200ed141b3','e5ac6ab5a9b7da2fe750210f42a9c2e9fa6629d7bb9e0dc8047c8196f59e3540');
INSERT INTO "audit_seals" VALUES(23,'evt_01m860ds9w6smmhzn725h73nv8','e5ac6ab5a9b7da2fe750210f42a9c2e9fa6629d7bb9e0dc8047c8196f59e3540','b4989a38819da93242b5b8aabcfe068134600edbf9b34be97b96ae1e1327fb52');
INSERT INTO "audit_seals" VALUES(24,'evt_01m860dsa94j1w5ph2g641shxd','b4989a38819da93242b5b8aabcfe068134600edbf9b34be97b96ae1e1327fb52','4ecfc12e5809b825dd79229738a38fa75473f9c12257ca4e7367e88ee73d48b4');
INSERT INTO "audit_seals" VALUES(25,'evt_01m860dshgd6vdk5z2zat5k18y','4ecfc12e5809b825dd79229738a38fa75473f9c12257ca4e7367e88ee73d48b4','40026bf65a0d9994384148aaa26a5c934c77719cc8a945206f6edaf0280d4d0b');
INSERT INTO "audit_seals" VALUES(26,'evt_01m860dshjca2xsptwyanev4tr','40026bf65a0d9994384148aaa26a5c934c77719cc8a945206f6edaf0280d4d0b','a6795a39da8a578415bcc50bf5a46e7faeda72040bc012ae04d2fd5ca352d1f8');
INSERT INTO "audit_seals" VALUES(27,'evt_01m860dshr8ynvkrfswrbw8ybr','a6795a39da8a578415bcc50bf5a46e7faeda72040bc012ae04d2fd5ca352d1f8','794e6449a369ed603ecbffe03fa067a0e711d68db04262599ac06f9990d7e54e');
INSERT INTO "audit_seals" VALUES(28,'evt_01m860dshw1md8f2xv0rxfh3t2','794e6449a369ed603ecbffe03fa067a0e711d68db04262599ac06f9990d7e54e','00ea51f7bb41fafb0c0e2be5fb0c0386e963f581d7ae2dbfa5276e1ca46c96f8');
INSERT INTO "audit_seals" VALUES(29,'evt_01m860dsj03cmf53ppjaeh1z5k','00ea51f7bb41fafb0c0e2be5fb0c0386e963f581d7ae2dbfa5276e1ca46c96f8','11979b81f9bf19de3f28bc0de1160a3357da07a141427231e22685cc34c7f0fe');
INSERT INTO "audit_seals" VALUES(30,'evt_01m860dsj419aqmf8wj8jwtz77','11979b81f9bf19de3f28bc0de1160a3357da07a141427231e22685cc34c7f0fe','8aa73499eb0331f5158da6c83bea236f6a9705c147b562e0d6bb7abf09df9012');
CREATE TABLE audit_unsealed (
	event_id VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_audit_unsealed PRIMARY KEY (event_id)
);
CREATE TABLE counters (
	name VARCHAR(64) NOT NULL, 
	value BIGINT NOT NULL, 
	CONSTRAINT pk_counters PRIMARY KEY (name)
);
INSERT INTO "counters" VALUES('policies',1);
CREATE TABLE decisions (
	id VARCHAR(64) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	stack_id VARCHAR(64) NOT NULL, 
	run_id VARCHAR(64) NOT NULL, 
	caller_login VARCHAR(128) NOT NULL, 
	allowed BOOLEAN NOT NULL, 
	input TEXT NOT NULL, 
	policies TEXT NOT NULL, 
	result TEXT NOT NULL, 
	took_us BIGINT NOT NULL, 
	decided_at BIGINT NOT NULL, 
	CONSTRAINT pk_decisions PRIMARY KEY (id)
);
INSERT INTO "decisions" VALUES('dec_01m860drkzd8stebgd3s6gvcy7','task','network','run_01m860drkzd8stebgd3s6gw32a','admin',1,'{"request": {"remote_ip": "127.0.0.1", "timestamp_ns": 1795498107516196439, "command": "echo finished"}, "session": {"login": "admin", "name": "First admin", "admin": true, "teams": [], "machine": false, "member": true, "creator_ip": "127.0.0.1", "account_name": "", "stack_id": null}, "stack": {"id": "network", "name": "network", "namespace": "", "repository": "", "branch": "", "project_root": null, "additional_project_globs": [], "labels": ["prod"], "administrative": false, "autodeploy": false, "locked_by": null, "state": "NONE", "terraform_version": null, "terraform_workflow_tool": "CUSTOM", "contexts": [], "roles": [], "space": {"id": "root", "name": "root", "labels": []}, "worker_pool": {"id": "public", "name": "Public", "labels": [], "public": true}, "tracked_commit": null}}','[{"kind": "task", "id": "no-destroy", "name": "no destroy", "revision": 1, "results": {"deny": []}}]','{"allowed": true, "messages": [], "access": "write"}',2790,1795498107519094);
INSERT INTO "decisions" VALUES('dec_01m860drypafygek3kfqft0vva','task','network','run_01m860drypafygek3kfqft109z','admin',1,'{"request": {"remote_ip": "127.0.0.1", "timestamp_ns": 1795498107860458832, "command": "echo failed; exit 3"}, "session": {"login": "admin", "name": "First admin", "admin": true, "teams": [], "machine": false, "member": true, "creator_ip": "127.0.0.1", "account_name": "", "stack_id": null}, "stack": {"id": "network", "name": "network", "namespace": "", "repository": "", "branch": "", "project_root": null, "additional_project_globs": [], "labels": ["prod"], "administrative": false, "autodeploy": false, "locked_by": null, "state": "NONE", "terraform_version": null, "terraform_workflow_tool": "CUSTOM", "contexts": [], "roles": [], "space": {"id": "root", "name": "root", "labels": []}, "worker_pool": {"id": "public", "name": "Public", "labels": [], "public": true}, "tracked_commit": null}}','[{"kind": "task", "id": "no-destroy", "name": "no destroy", "revision": 1, "results": {"deny": []}}]','{"allowed": true, "messages": [], "access": "write"}',2096,1795498107862616);
INSERT INTO "decisions" VALUES('dec_01m860ds9e5yq6vgejnqsp349v','task','network','','admin',0,'{"request": {"remote_ip": "127.0.0.1", "timestamp_ns": 1795498108204546209, "command": "terraform destroy"}, "session": {"login": "admin", "name": "First admin", "admin": true, "teams": [], "machine": false, "member": true, "creator_ip": "127.0.0.1", "account_name": "", "stack_id": null}, "stack": {"id": "network", "name": "network", "namespace": "", "repository": "", "branch": "", "project_root": null, "additional_project_globs": [], "labels": ["prod"], "administrative": false, "autodeploy": false, "locked_by": null, "state": "NONE", "terraform_version": null, "terraform_workflow_tool": "CUSTOM", "contexts": [], "roles": [], "space": {"id": "root", "name": "root", "labels": []}, "worker_pool": {"id": "public", "name": "Public", "labels": [], "public": true}, "tracked_commit": null}}','[{"kind": "task", "id": "no-destroy", "name": "no destroy", "revision": 1, "results": {"deny": ["not now"]}}]','{"allowed": false, "messages": ["not now"], "access": "write"}',2009,1795498108206618);
INSERT INTO "decisions" VALUES('dec_01m860ds9s3wswyz7cj9dgna37','task','database','run_01m860ds9s3wswyz7cj9dgp4ba','admin',1,'{"request": {"remote_ip": "127.0.0.1", "timestamp_ns": 1795498108217445017, "command": "sleep 4"}, "session": {"login": "admin", "name": "First admin", "admin": true, "teams": [], "machine": false, "member": true, "creator_ip": "127.0.0.1", "account_name": "", "stack_id": null}, "stack": {"id": "database", "name": "database", "namespace": "", "repository": "", "branch": "", "project_root": null, "additional_project_globs": [], "labels": [], "administrative": false, "autodeploy": false, "locked_by": "admin", "state": "NONE", "terraform_version": null, "terraform_workflow_tool": "CUSTOM", "contexts": [], "roles": [], "space": {"id": "root", "name": "root", "labels": []}, "worker_pool": {"id": "public", "name": "Public", "labels": [], "public": true}, "tracked_commit": null}}','[]','{"allowed": true, "messages": [], "access": "write"}',118,1795498108217622);
INSERT INTO "decisions" VALUES('dec_01m860dshqfs3j2sj06yv2ppzj','task','database','run_01m860dshr8ynvkrfswrbw8q5a','admin',1,'{"request": {"remote_ip": "127.0.0.1", "timestamp_ns": 1795498108471822514, "command": "echo queued"}, "session": {"login": "admin", "name": "First admin", "admin": true, "teams": [], "machine": false, "member": true, "creator_ip": "127.0.0.1", "account_name": "", "stack_id": null}, "stack": {"id": "database", "name": "database", "namespace": "", "repository": "", "branch": "", "project_root": null, "additional_project_globs": [], "labels": [], "administrative": false, "autodeploy": false, "locked_by": "admin", "state": "PERFORMING", "terraform_version": null, "terraform_workflow_tool": "CUSTOM", "contexts": [], "roles": [], "space": {"id": "root", "name": "root", "labels": []}, "worker_pool": {"id": "public", "name": "Public", "labels": [], "public": true}, "tracked_commit": null}}','[]','{"allowed": true, "messages": [], "access": "write"}',86,1795498108471964);
INSERT INTO "decisions" VALUES('dec_01m860dshw1md8f2xv0rxfertt','task','database','run_01m860dshw1md8f2xv0rxffnep','admin',1,'{"request": {"remote_ip": "127.0.0.1", "timestamp_ns": 1795498108476088651, "command": "echo discarded"}, "session": {"login": "admin", "name": "First admin", "admin": true, "teams": [], "machine": false, "member": true, "creator_ip": "127.0.0.1", "account_name": "", "stack_id": null}, "stack": {"id": "database", "name": "database", "namespace": "", "repository": "", "branch": "", "project_root": null, "additional_project_globs": [], "labels": [], "administrative": false, "autodeploy": false, "locked_by": "admin", "state": "PERFORMING", "terraform_version": null, "terraform_workflow_tool": "CUSTOM", "contexts": [], "roles": [], "space": {"id": "root", "name": "root", "labels": []}, "worker_pool": {"id": "public", "name": "Public", "labels": [], "public": true}, "tracked_commit": null}}','[]','{"allowed": true, "messages": [], "access": "write"}',83,1795498108476232);
CREATE TABLE environment_variables (
	stack_id VARCHAR(64) NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	secret BOOLEAN NOT NULL, 
	value BLOB NOT NULL, 
	checksum VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_environment_variables PRIMARY KEY (stack_id, name), 
	CONSTRAINT fk_environment_variables_stack_id FOREIGN KEY(stack_id) REFERENCES stacks (id)
);
INSERT INTO "environment_variables" VALUES('network','REGION',0,X'6575','f6265d4e2cc4fd4a');
INSERT INTO "environment_variables" VALUES('network','TOKEN',1,X'7ED5B34110AFD425584FE3855D813932B858DA4419AED17F7C1FC68735D4BDF2937258F081CD3EE1E11CA274BE6240B084','f53cc07042e06104');
CREATE TABLE installation (
	id BIGINT NOT NULL, 
	key_fingerprint VARCHAR(64) NOT NULL, 
	recorded_at BIGINT NOT NULL, 
	CONSTRAINT pk_installation PRIMARY KEY (id)
);
INSERT INTO "installation" VALUES(1,'e27ef0d5c8130415b5273e8ab81ba526d9a4efd87df766cef174009d0a42fb3c',1795498106894858);
CREATE TABLE mounted_files (
	stack_id VARCHAR(64) NOT NULL, 
	path VARCHAR(1024) NOT NULL, 
	secret BOOLEAN NOT NULL, 
	content BLOB NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	checksum VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_mounted_files PRIMARY KEY (stack_id, path), 
	CONSTRAINT fk_mounted_files_stack_id FOREIGN KEY(stack_id) REFERENCES stacks (id)
);
CREATE TABLE policies (
	id VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	description TEXT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	body TEXT NOT NULL, 
	module TEXT NOT NULL, 
	rego_version INTEGER NOT NULL, 
	labels JSON NOT NULL, 
	revision BIGINT NOT NULL, 
	version BIGINT NOT NULL, 
	created_at BIGINT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	CONSTRAINT pk_policies PRIMARY KEY (id)
);
INSERT INTO "policies" VALUES('no-destroy','no destroy','','task','package spacelift

deny["not now"] { contains(input.request.command, "destroy") }
','package interlock.policies["@interlock:policy@"]

import rego.v1

deny contains "not now" if contains(input.request.command, "destroy")
interlock_identity := {"kind": "task", "revision": @interlock:revision@}
# interlock_lines {"5": 3}
',1,'["autoattach:prod"]',1,1,1795498107478017,1795498107478017);
CREATE TABLE policy_attachments (
	policy_id VARCHAR(64) NOT NULL, 
	stack_id VARCHAR(64) NOT NULL, 
	attached_at BIGINT NOT NULL, 
	CONSTRAINT pk_policy_attachments PRIMARY KEY (policy_id, stack_id), 
	CONSTRAINT fk_policy_attachments_policy_id FOREIGN KEY(policy_id) REFERENCES policies (id), 
	CONSTRAINT fk_policy_attachments_stack_id FOREIGN KEY(stack_id) REFERENCES stacks (id)
);
CREATE TABLE policy_revisions (
	policy_id VARCHAR(64) NOT NULL, 
	revision BIGINT NOT NULL, 
	body TEXT NOT NULL, 
	author BLOB NOT NULL, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_policy_revisions PRIMARY KEY (policy_id, revision)
);
INSERT INTO "policy_revisions" VALUES('no-destroy',1,'package spacelift

deny["not now"] { contains(input.request.command, "destroy") }
',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801',1795498107478978);
CREATE TABLE pool_tokens (
	id VARCHAR(64) NOT NULL, 
	pool_id VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	secret_hash BLOB NOT NULL, 
	created_at BIGINT NOT NULL, 
	revoked_at BIGINT, 
	last_used_at BIGINT, 
	CONSTRAINT pk_pool_tokens PRIMARY KEY (id), 
	CONSTRAINT fk_pool_tokens_pool_id FOREIGN KEY(pool_id) REFERENCES pools (id)
);
INSERT INTO "pool_tokens" VALUES('ptk_01m860dr3w1e4s5ggttqzt0rkv','public','one',X'51BE4D8EE166AFC472743A49C5FA6FD892DBCF6D3DA4A61EB58723FD199BD1F8',1795498107004096,NULL,1795498107328280);
CREATE TABLE pools (
	id VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	public BOOLEAN NOT NULL, 
	labels JSON NOT NULL, 
	container BLOB NOT NULL, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_pools PRIMARY KEY (id)
);
INSERT INTO "pools" VALUES('public','Public',1,'[]',X'',1795498106715245);
CREATE TABLE requests (
	principal_id VARCHAR(64) NOT NULL, 
	method VARCHAR(64) NOT NULL, 
	request_id VARCHAR(128) NOT NULL, 
	content_sha256 VARCHAR(64) NOT NULL, 
	resource_id VARCHAR(64) NOT NULL, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_requests PRIMARY KEY (principal_id, method, request_id)
);
INSERT INTO "requests" VALUES('key_01m860dr2e71x94zanq3hmfatn','CreatePoolToken','1a2555dea96b4c1da32688f99bc94094','5fb5f364e5947fe013ed35bee72ef50e0890d5cdf9f280b91bd02c28d2040671','ptk_01m860dr3w1e4s5ggttqzt0rkv',1795498107005975);
INSERT INTO "requests" VALUES('key_01m860dr2e71x94zanq3hmfatn','CreatePolicy','f2f0a3d00b20415e8ee840042dbd17e5','3e5a60674c954639d7d21e4aa24549021630fa718ee9e0648c01f93f15a881fb','no-destroy',1795498107480228);
INSERT INTO "requests" VALUES('key_01m860dr2e71x94zanq3hmfatn','CreateStack','706712b2e9c345aa8912494e9fee4b92','471da415eeb31c9b76364c52f83d0800843e2e8f2ebd83281e6991ca07deeb28','network',1795498107503155);
INSERT INTO "requests" VALUES('key_01m860dr2e71x94zanq3hmfatn','CreateTask','189f18978af14c809d7d0abebca4ac15','ff87b5823f60c8c9a095ded38a73fc7914c2dc68677450edaa06e18f4a00b16b','run_01m860drkzd8stebgd3s6gw32a',1795498107522274);
INSERT INTO "requests" VALUES('key_01m860dr2e71x94zanq3hmfatn','CreateTask','cf2c8a8dcb60485cb3a58f8be60c5e10','852898262512e9f17b4f7fe27a0465a7a38d06dbe00503b4f59b9cb7860958cc','run_01m860drypafygek3kfqft109z',1795498107863553);
INSERT INTO "requests" VALUES('key_01m860dr2e71x94zanq3hmfatn','CreateStack','7e79ba5d03034960bea7654953de8cff','75ae51f99b2d294c05b591d8c09098d44d5ec2fc0956b347f1d92acccd389b46','database',1795498108209717);
INSERT INTO "requests" VALUES('key_01m860dr2e71x94zanq3hmfatn','CreateTask','9b209428c031497ea04edce381cb4bf5','3753851c6e7b7041d1b9a8bdf761e70855e467f71671a02304335ffadf6a7e21','run_01m860ds9s3wswyz7cj9dgp4ba',1795498108218486);
INSERT INTO "requests" VALUES('key_01m860dr2e71x94zanq3hmfatn','CreateTask','760bd2c121e643ceb352e66f1e5e8797','4867abcb023a6ee0ffdeb0a90743ef2b501da113a2b71b73a18721d12a5538f2','run_01m860dshr8ynvkrfswrbw8q5a',1795498108472961);
INSERT INTO "requests" VALUES('key_01m860dr2e71x94zanq3hmfatn','CreateTask','asked-once','4e53c876e03641057ad038590563774ed35b7d0e1b6bdad141eac6bcb27ef353','run_01m860dshw1md8f2xv0rxffnep',1795498108476868);
INSERT INTO "requests" VALUES('key_01m860dr2e71x94zanq3hmfatn','CreateApiKey','1d4d2888a46c4315aaa423b174c1d387','5a28113c830394c38c8defe0071173346217e2bdfb665ddbe18975114ad3d999','key_01m860dsj355dhv31gsvetbvmr',1795498108484436);
CREATE TABLE run_changes (
	id INTEGER NOT NULL, 
	run_id VARCHAR(64) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	changed_at BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_run_changes PRIMARY KEY (id), 
	CONSTRAINT fk_run_changes_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "run_changes" VALUES(1,'run_01m860drkzd8stebgd3s6gw32a','QUEUED',1795498107521179,'allowed by policy');
INSERT INTO "run_changes" VALUES(2,'run_01m860drkzd8stebgd3s6gw32a','READY',1795498107525292,'its turn on the stack has come');
INSERT INTO "run_changes" VALUES(3,'run_01m860drkzd8stebgd3s6gw32a','PREPARING',1795498107546152,'a runner prepares it');
INSERT INTO "run_changes" VALUES(4,'run_01m860drkzd8stebgd3s6gw32a','INITIALIZING',1795498107802900,'hooks and init run');
INSERT INTO "run_changes" VALUES(5,'run_01m860drkzd8stebgd3s6gw32a','PERFORMING',1795498107804975,'init is done, the gate is open');
INSERT INTO "run_changes" VALUES(6,'run_01m860drkzd8stebgd3s6gw32a','FINISHED',1795498107850831,'exit code 0, all output stored');
INSERT INTO "run_changes" VALUES(7,'run_01m860drypafygek3kfqft109z','QUEUED',1795498107863315,'allowed by policy');
INSERT INTO "run_changes" VALUES(8,'run_01m860drypafygek3kfqft109z','READY',1795498107865754,'its turn on the stack has come');
INSERT INTO "run_changes" VALUES(9,'run_01m860drypafygek3kfqft109z','PREPARING',1795498107882025,'a runner prepares it');
INSERT INTO "run_changes" VALUES(10,'run_01m860drypafygek3kfqft109z','INITIALIZING',1795498108148797,'hooks and init run');
INSERT INTO "run_changes" VALUES(11,'run_01m860drypafygek3kfqft109z','PERFORMING',1795498108151356,'init is done, the gate is open');
INSERT INTO "run_changes" VALUES(12,'run_01m860drypafygek3kfqft109z','FAILED',1795498108196735,'the command ended with exit code 3');
INSERT INTO "run_changes" VALUES(13,'run_01m860ds9s3wswyz7cj9dgp4ba','QUEUED',1795498108218187,'allowed by policy');
INSERT INTO "run_changes" VALUES(14,'run_01m860ds9s3wswyz7cj9dgp4ba','READY',1795498108220888,'its turn on the stack has come');
INSERT INTO "run_changes" VALUES(15,'run_01m860ds9s3wswyz7cj9dgp4ba','PREPARING',1795498108233470,'a runner prepares it');
INSERT INTO "run_changes" VALUES(16,'run_01m860ds9s3wswyz7cj9dgp4ba','INITIALIZING',1795498108464158,'hooks and init run');
INSERT INTO "run_changes" VALUES(17,'run_01m860ds9s3wswyz7cj9dgp4ba','PERFORMING',1795498108466448,'init is done, the gate is open');
INSERT INTO "run_changes" VALUES(18,'run_01m860dshr8ynvkrfswrbw8q5a','QUEUED',1795498108472707,'allowed by policy');
INSERT INTO "run_changes" VALUES(19,'run_01m860dshw1md8f2xv0rxffnep','QUEUED',1795498108476669,'allowed by policy');
INSERT INTO "run_changes" VALUES(20,'run_01m860dshw1md8f2xv0rxffnep','DISCARDED',1795498108480195,'discarded by admin');
CREATE TABLE runners (
	id VARCHAR(64) NOT NULL, 
	pool_id VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	version VARCHAR(64) NOT NULL, 
	capacity INTEGER NOT NULL, 
	boot_id VARCHAR(64) NOT NULL, 
	connected_at BIGINT NOT NULL, 
	last_seen_at BIGINT NOT NULL, 
	CONSTRAINT pk_runners PRIMARY KEY (id)
);
INSERT INTO "runners" VALUES('rnr_pb4xmr8eqjoxm9e9o6t3kodwgl','public','one','0.1.0',2,'2021b86c-4875-406d-ad9a-cc1c5eaf67b1',1795498107329559,1795498107329559);
CREATE TABLE runs (
	id VARCHAR(64) NOT NULL, 
	stack_id VARCHAR(64) NOT NULL, 
	type VARCHAR(16) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	command TEXT NOT NULL, 
	skip_initialization BOOLEAN NOT NULL, 
	creator_id VARCHAR(64) NOT NULL, 
	creator_login VARCHAR(128) NOT NULL, 
	creator BLOB NOT NULL, 
	pool_id VARCHAR(64) NOT NULL, 
	decision_id VARCHAR(64) NOT NULL, 
	commit_hash VARCHAR(64) DEFAULT '' NOT NULL, 
	commit_ref TEXT DEFAULT '' NOT NULL, 
	source_sha256 VARCHAR(64) DEFAULT '' NOT NULL, 
	source_size_bytes BIGINT DEFAULT '0' NOT NULL, 
	fence BIGINT DEFAULT '0' NOT NULL, 
	assignment_id VARCHAR(64) DEFAULT '' NOT NULL, 
	runner_id VARCHAR(64) DEFAULT '' NOT NULL, 
	stop_requested BOOLEAN DEFAULT false NOT NULL, 
	unreachable_since BIGINT, 
	state_reason TEXT DEFAULT '' NOT NULL, 
	failure INTEGER DEFAULT '0' NOT NULL, 
	exit_code INTEGER, 
	output_size_bytes BIGINT DEFAULT '0' NOT NULL, 
	output_sha256 VARCHAR(64) DEFAULT '' NOT NULL, 
	created_at BIGINT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	performed_at BIGINT, 
	finished_at BIGINT, 
	CONSTRAINT pk_runs PRIMARY KEY (id), 
	CONSTRAINT fk_runs_stack_id FOREIGN KEY(stack_id) REFERENCES stacks (id)
);
INSERT INTO "runs" VALUES('run_01m860drkzd8stebgd3s6gw32a','network','TASK','FINISHED','echo finished',0,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','public','dec_01m860drkzd8stebgd3s6gvcy7','','','',0,1,'asg_01m860drm8f9fs0e06fzs6ntrg','rnr_pb4xmr8eqjoxm9e9o6t3kodwgl',0,NULL,'exit code 0, all output stored',0,0,9,'161069badc0cc23058b13d7c068e45205f4333aa15fd78db9d68f5c9f1ae8983',1795498107519758,1795498107849698,1795498107804281,1795498107849516);
INSERT INTO "runs" VALUES('run_01m860drypafygek3kfqft109z','network','TASK','FAILED','echo failed; exit 3',0,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','public','dec_01m860drypafygek3kfqft0vva','','','',0,2,'asg_01m860dryt70deah4s55fny859','rnr_pb4xmr8eqjoxm9e9o6t3kodwgl',0,NULL,'the command ended with exit code 3',1,3,7,'6da5b18878e110928643ebcc38dbb7552cf3a296eea56493e23edc2b93eecff8',1795498107863015,1795498108196342,1795498108150876,1795498108196137);
INSERT INTO "runs" VALUES('run_01m860ds9s3wswyz7cj9dgp4ba','database','TASK','PERFORMING','sleep 4',0,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','public','dec_01m860ds9s3wswyz7cj9dgna37','','','',0,1,'asg_01m860ds9zd4zfsdetq0axgveg','rnr_pb4xmr8eqjoxm9e9o6t3kodwgl',0,NULL,'init is done, the gate is open',0,NULL,0,'',1795498108217926,1795498108466278,1795498108466179,NULL);
INSERT INTO "runs" VALUES('run_01m860dshr8ynvkrfswrbw8q5a','database','TASK','QUEUED','echo queued',0,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','public','dec_01m860dshqfs3j2sj06yv2ppzj','','','',0,0,'','',0,NULL,'allowed by policy',0,NULL,0,'',1795498108472387,1795498108472387,NULL,NULL);
INSERT INTO "runs" VALUES('run_01m860dshw1md8f2xv0rxffnep','database','TASK','DISCARDED','echo discarded',0,'key_01m860dr2e71x94zanq3hmfatn','admin',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','public','dec_01m860dshw1md8f2xv0rxfertt','','','',0,0,'','',0,NULL,'discarded by admin',0,NULL,0,'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',1795498108476494,1795498108479510,NULL,1795498108479401);
CREATE TABLE slots (
	stack_id VARCHAR(64) NOT NULL, 
	holder_run_id VARCHAR(64), 
	fence BIGINT DEFAULT '0' NOT NULL, 
	pending INTEGER DEFAULT '0' NOT NULL, 
	ready_at BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_slots PRIMARY KEY (stack_id), 
	CONSTRAINT fk_slots_stack_id FOREIGN KEY(stack_id) REFERENCES stacks (id)
);
INSERT INTO "slots" VALUES('network',NULL,2,0,1795498108197108);
INSERT INTO "slots" VALUES('database','run_01m860ds9s3wswyz7cj9dgp4ba',1,1,0);
CREATE TABLE stacks (
	id VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	description TEXT NOT NULL, 
	labels JSON NOT NULL, 
	source_kind VARCHAR(16) NOT NULL, 
	git_url TEXT DEFAULT '' NOT NULL, 
	git_ref TEXT DEFAULT '' NOT NULL, 
	git_credential_sealed BLOB, 
	project_root TEXT DEFAULT '' NOT NULL, 
	archive_sha256 VARCHAR(64) DEFAULT '' NOT NULL, 
	archive_size_bytes BIGINT DEFAULT '0' NOT NULL, 
	archive_uploaded_at BIGINT, 
	tool INTEGER NOT NULL, 
	custom_init JSON NOT NULL, 
	image TEXT NOT NULL, 
	pull_policy INTEGER NOT NULL, 
	pool_id VARCHAR(64) NOT NULL, 
	hooks BLOB NOT NULL, 
	administrative BOOLEAN NOT NULL, 
	lock_owner_id VARCHAR(64), 
	lock_owner BLOB, 
	lock_note TEXT DEFAULT '' NOT NULL, 
	locked_at BIGINT, 
	version BIGINT NOT NULL, 
	created_at BIGINT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	deleted_at BIGINT, 
	CONSTRAINT pk_stacks PRIMARY KEY (id), 
	CONSTRAINT fk_stacks_pool_id FOREIGN KEY(pool_id) REFERENCES pools (id)
);
INSERT INTO "stacks" VALUES('network','network','','["prod"]','archive','','',NULL,'','',0,NULL,7,'[]','interlock-demo:7f7ce4493cc0',3,'public',X'',0,NULL,NULL,'',NULL,2,1795498107502018,1795498107508770,NULL);
INSERT INTO "stacks" VALUES('database','database','','[]','archive','','',NULL,'','',0,NULL,7,'[]','interlock-demo:7f7ce4493cc0',3,'public',X'',0,'key_01m860dr2e71x94zanq3hmfatn',X'0A1E6B65795F30316D3836306472326537317839347A616E7133686D6661746E120561646D696E1A0B46697273742061646D696E2801','maintenance',1795498108212802,2,1795498108209499,1795498108209499,NULL);
CREATE UNIQUE INDEX api_key_login_in_force ON api_keys (login) WHERE revoked_at IS NULL;
CREATE INDEX ix_pool_tokens_pool_id ON pool_tokens (pool_id);
CREATE INDEX ix_runners_pool_id ON runners (pool_id);
CREATE INDEX ix_stacks_pool_id ON stacks (pool_id);
CREATE INDEX slots_ready ON slots (ready_at, stack_id) WHERE holder_run_id IS NULL AND pending > 0;
CREATE INDEX runs_active_by_runner ON runs (runner_id) WHERE state IN ('READY', 'PREPARING', 'INITIALIZING', 'PERFORMING');
CREATE INDEX runs_of_creator ON runs (creator_login, id);
CREATE INDEX runs_of_stack ON runs (stack_id, id);
CREATE UNIQUE INDEX runs_one_active ON runs (stack_id) WHERE state IN ('READY', 'PREPARING', 'INITIALIZING', 'PERFORMING');
CREATE INDEX runs_queued ON runs (stack_id, id) WHERE state = 'QUEUED';
CREATE INDEX ix_run_changes_run_id ON run_changes (run_id);
CREATE INDEX ix_assignments_run_id ON assignments (run_id);
CREATE INDEX ix_assignments_runner_id ON assignments (runner_id);
CREATE INDEX policy_attachments_of_stack ON policy_attachments (stack_id);
CREATE INDEX ix_decisions_stack_id ON decisions (stack_id);
CREATE INDEX audit_events_of_caller ON audit_events (caller_login, id);
CREATE INDEX audit_events_of_resource ON audit_events (resource_id, id);
CREATE INDEX audit_events_of_stack ON audit_events (stack_id, id);
CREATE TRIGGER audit_events_refuse_update BEFORE UPDATE ON audit_events
    BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
CREATE TRIGGER audit_events_refuse_delete BEFORE DELETE ON audit_events
    BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
CREATE TRIGGER audit_events_refuse_replace BEFORE INSERT ON audit_events
    WHEN EXISTS (SELECT 1 FROM audit_events WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
CREATE TRIGGER audit_seals_refuse_update BEFORE UPDATE ON audit_seals
    BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
CREATE TRIGGER audit_seals_refuse_delete BEFORE DELETE ON audit_seals
    BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
CREATE TRIGGER audit_seals_refuse_replace BEFORE INSERT ON audit_seals
    WHEN EXISTS (SELECT 1 FROM audit_seals WHERE sequence = NEW.sequence OR event_id = NEW.event_id)
    BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
CREATE TRIGGER audit_events_queue AFTER INSERT ON audit_events
    BEGIN INSERT INTO audit_unsealed (event_id) VALUES (NEW.id); END;
COMMIT;
